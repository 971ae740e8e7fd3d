"""Training time: one clock for all ranks, stopped while something else than training happens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from golf_fast.distributed import Ranks


class Clock:
    """Seconds of training, and the length of each step, as rank 0 measures them.

    On a GPU a step is finished when the device says so: the clock lets one step run ahead of the one it waits for, so
    that the device never starves and the host never runs away from it.

    Args:
        ranks: rank 0's time is every rank's time.
        now: a clock in seconds.
    """

    def __init__(self, ranks: Ranks, now: Callable[[], float] = time.perf_counter) -> None:
        self._ranks = ranks
        self._now = now
        self._cuda = ranks.device.type == "cuda"
        self._in_flight: deque[torch.cuda.Event] = deque()
        self.wanted: Callable[[], int] = lambda: 0
        """The number of a signal that wants this rank to end, 0 for none."""
        self.wanted_by = 0
        """The same of all ranks, as it was when the last step finished: all know it after the same step."""
        self.finished: Callable[[int], None] = lambda steps: None
        """Told of each step that is finished how many there are, on all ranks after the same step."""
        self._start = now()
        self._paused = 0.0
        self.elapsed = 0.0
        """Training seconds up to the end of the last finished step."""
        self.step_seconds: list[float] = []
        """Length of each finished step."""

    @property
    def in_flight(self) -> int:
        """Steps that were started and are not finished."""
        return len(self._in_flight)

    def step_issued(self) -> None:
        """Note that a step's work was issued; returns when at most one step is unfinished."""
        if self._cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._in_flight.append(event)
            if len(self._in_flight) < 2:
                return
            self._in_flight.popleft().synchronize()
        self._finish_step()

    def go_on(self, elapsed: float, step_seconds: list[float]) -> None:
        """Go on where the clock of an earlier process was."""
        self.elapsed, self.step_seconds = elapsed, list(step_seconds)
        self._start, self._paused = self._now() - elapsed, 0.0

    def drain(self) -> None:
        """Wait for the steps in flight."""
        while self._in_flight:
            self._in_flight.popleft().synchronize()
            self._finish_step()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Do something that is not training: its time does not count, on whichever rank it takes longest."""
        self.drain()
        began = self._now()
        yield
        self._ranks.barrier()
        self._paused += self._now() - began

    def _finish_step(self) -> None:
        said = torch.tensor([self._now() - self._start - self._paused, float(self.wanted())], dtype=torch.float64)
        of_all = self._ranks.all_gather_into(torch.empty(2 * self._ranks.world_size, dtype=torch.float64), said)
        elapsed = float(of_all[0])
        self.wanted_by = int(of_all[1::2].max())
        self.step_seconds.append(elapsed - self.elapsed)
        self.elapsed = elapsed
        self.finished(len(self.step_seconds))
