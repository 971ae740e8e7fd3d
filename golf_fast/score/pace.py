"""The time of a scoring pass: what its parts cost so far, and whether what is planned still fits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from golf_fast.distributed import Ranks

KEPT = 0.05
"""Share of the limit that no plan uses: what is measured of a few chunks is not exactly what all of them take."""


class Pace:
    """Measures kinds of work, and foretells from what is left of each whether it will be done in time.

    The first measurement of a kind holds what is done only once, such as compiling: it is an upper bound, until a
    second one gives the rate. Without a limit everything fits, and no device is waited for.

    Args:
        limit: seconds that the pass may take; 0: no limit.
        clock: seconds; only differences count.
        say: is told, once each, what is given up.
        cuts: what a pass gave up that is made again, by what and where (`Ledger.cut`): how much was done.
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
        """Whether a kind was measured often enough to have a rate, and not only an upper bound."""
        return self._work[kind] > 0

    def given(self, what: str, place: int) -> int | None:
        """How much a pass that is made again did there; None if it gave nothing up, or there is none."""
        return self._cuts.get((what, place))

    def fits(self, **left: float) -> bool:
        """Whether these amounts of work, by kind, would end in time; this rank's own answer.

        A kind measured once is taken to cost its upper bound, one not measured yet nothing.
        """
        if not self.limit:
            return True
        seconds = sum(self._rate(kind) * work for kind, work in left.items())
        return self._now() - self._began + seconds <= self.limit * (1 - KEPT)

    def all_fits(self, **left: float) -> bool:
        """The answer of rank 0, on every rank: called by all together."""
        return self.limit == 0 or bool(self._ranks.broadcast_float(float(self.fits(**left))))

    def say(self, what: str, topic: str = "") -> None:
        """Tell what is given up: once, or for a topic only what is said of it first."""
        if (topic or what) in self._said:
            return
        self._said.add(topic or what)
        self._news.append(what)
        if self._say is not None:
            self._say(what)

    def news(self) -> list[str]:
        """What was said since this was last asked."""
        news, self._news = self._news, []
        return news

    def _rate(self, kind: str) -> float:
        """Seconds of a unit of work."""
        return self._seconds[kind] / self._work[kind] if self.known(kind) else self._bounds.get(kind, 0.0)

    def _now(self) -> float:
        if self.limit and self._ranks.device.type == "cuda":
            torch.cuda.synchronize(self._ranks.device)
        return self._clock()
