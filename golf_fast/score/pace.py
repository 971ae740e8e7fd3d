"""Measures the time of the parts of a scoring pass, and predicts whether planned work fits the time limit."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from golf_fast.distributed import Ranks

KEPT = 0.05
"""Share of the time limit that plans leave unused, as rates measured on a few chunks are not exact."""


class Pace:
    """Measures the rates of several kinds of work, and predicts whether the remaining amounts fit the time limit.

    The first measurement of a kind includes one-time costs such as compilation, so it counts as an upper bound until a
    second one gives the rate. Without a limit everything fits, and no device is waited for.

    Args:
        limit: time limit of the pass in seconds; 0: no limit.
        ranks: the ranks that score together; default: this process only.
        clock: returns a time in seconds.
        say: called once with each message about work that is given up.
        cuts: for a pass that is repeated, the amounts done before each cut of the first one, by `what` and `place` (see
            `Ledger.cut`).
    """

    def __init__(
        self,
        limit: float = 0.0,
        ranks: Ranks | None = None,
        clock: Callable[[], float] = time.perf_counter,
        say: Callable[[str], None] | None = None,
        cuts: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        self.limit = limit
        self._ranks = ranks or Ranks.single()
        self._clock = clock
        self._say = say
        self._said: set[str] = set()
        self._news: list[str] = []
        self._began = clock()
        self._cuts = cuts or {}
        self._bounds: dict[str, float] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._work: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measured(self, kind: str, work: float) -> Iterator[None]:
        """Time `work` units of a kind of work."""
        began = self._now()
        yield
        seconds = self._now() - began
        if not work:
            return
        if kind not in self._bounds:
            self._bounds[kind] = seconds / work
        else:
            self._seconds[kind] += seconds
            self._work[kind] += work

    def known(self, kind: str) -> bool:
        """Whether a kind of work has a rate, and not only an upper bound."""
        return self._work[kind] > 0

    def given(self, what: str, place: int) -> int | None:
        """The amount that the repeated pass did before it was cut there; None: it was not cut, or none is repeated."""
        return self._cuts.get((what, place))

    def fits(self, **left: float) -> bool:
        """Whether these amounts of work, by kind, would finish in time, as this rank measures it.

        A kind that was measured once counts with its upper bound, one that was not measured counts as free.
        """
        if not self.limit:
            return True
        seconds = sum(self._rate(kind) * work for kind, work in left.items())
        return self._now() - self._began + seconds <= self.limit * (1 - KEPT)

    def all_fits(self, **left: float) -> bool:
        """The answer of `fits` on rank 0; called by all ranks together."""
        return self.limit == 0 or bool(self._ranks.broadcast_float(float(self.fits(**left))))

    def say(self, what: str, topic: str = "") -> None:
        """Report work that is given up; each message, or the first of each topic, is reported once."""
        if (topic or what) in self._said:
            return
        self._said.add(topic or what)
        self._news.append(what)
        if self._say is not None:
            self._say(what)

    def news(self) -> list[str]:
        """The messages since the last call."""
        news, self._news = self._news, []
        return news

    def _rate(self, kind: str) -> float:
        """Seconds per unit of work."""
        return self._seconds[kind] / self._work[kind] if self.known(kind) else self._bounds.get(kind, 0.0)

    def _now(self) -> float:
        if self.limit and self._ranks.device.type == "cuda":
            torch.cuda.synchronize(self._ranks.device)
        return self._clock()
