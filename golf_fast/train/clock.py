"""The training clock: one for all ranks, stopped during work that does not count as training."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from golf_fast.distributed import Ranks


class Clock:
    """Seconds of training and the length of each step, as rank 0 measures them.

    On a GPU a step is finished when its CUDA event completes. The host issues one step ahead of the step it waits for,
    so the device always has work and the host never runs further ahead.

    Args:
        ranks: the ranks of the run; the time of rank 0 counts for all.
        now: returns a time in seconds.
    """

    def __init__(self, ranks: Ranks, now: Callable[[], float] = time.perf_counter) -> None:
        self._ranks = ranks
        self._now = now
        self._cuda = ranks.device.type == "cuda"
        self._in_flight: deque[torch.cuda.Event] = deque()
        self.wanted: Callable[[], int] = lambda: 0
        """Returns the number of the signal that asks this rank to end; 0: there is none."""
        self.wanted_by = 0
        """The largest of these numbers over all ranks when the last step finished; every rank has the same value."""
        self.finished: Callable[[int], None] = lambda steps: None
        """Called after each finished step with the number of finished steps, on all ranks after the same step."""
        self._start = now()
        self._paused = 0.0
        self.elapsed = 0.0
        """Training seconds up to the end of the last finished step."""
        self.step_seconds: list[float] = []
        """Length of each finished step, in seconds."""

    @property
    def in_flight(self) -> int:
        """Number of steps that were issued and are not finished."""
        return len(self._in_flight)

    def step_issued(self) -> None:
        """Register that the work of a step was issued; returns when at most one step is unfinished."""
        if self._cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._in_flight.append(event)
            if len(self._in_flight) < 2:
                return
            self._in_flight.popleft().synchronize()
        self._finish_step()

    def go_on(self, elapsed: float, step_seconds: list[float]) -> None:
        """Continue from the state of an earlier process's clock."""
        self.elapsed, self.step_seconds = elapsed, list(step_seconds)
        self._start, self._paused = self._now() - elapsed, 0.0

    def drain(self) -> None:
        """Wait for the steps in flight."""
        while self._in_flight:
            self._in_flight.popleft().synchronize()
            self._finish_step()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock while the block runs, until the slowest rank has finished it."""
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
