"""The time of a scoring pass: what its parts cost so far, and whether what is planned still fits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from golf_fast.distributed import Ranks

KEPT = 0.05
"""Share of the limit that no plan uses: what is measured of a few chunks is not exactly what all of them take."""


class Pace:
    """Measures kinds of work, and foretells from what is left of each whether it will be done in time.

    Without a limit everything fits, and no device is waited for.

    Args:
        limit: seconds that the pass may take; 0: no limit.
        clock: seconds; only differences count.
        say: is told, once each, what is given up.
    """

    def __init__(
        self,
        limit: float = 0.0,
        ranks: Ranks | None = None,
        clock: Callable[[], float] = time.perf_counter,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.limit = limit
        self._ranks = ranks or Ranks.single()
        self._clock = clock
        self._say = say
        self._said: set[str] = set()
        self._began = clock()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._work: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measured(self, kind: str, work: float) -> Iterator[None]:
        """Time `work` units of a kind of work."""
        began = self._now()
        yield
        self._seconds[kind] += self._now() - began
        self._work[kind] += work

    def known(self, kind: str) -> bool:
        """Whether some work of a kind was measured."""
        return self._work[kind] > 0

    def fits(self, **left: float) -> bool:
        """Whether these amounts of work, by kind, would end in time; a kind not measured yet is taken to cost nothing.

        This rank's own answer.
        """
        if not self.limit:
            return True
        seconds = sum(self._seconds[kind] / self._work[kind] * work for kind, work in left.items() if self.known(kind))
        return self._now() - self._began + seconds <= self.limit * (1 - KEPT)

    def all_fits(self, **left: float) -> bool:
        """The answer of rank 0, on every rank: called by all together."""
        return self.limit == 0 or bool(self._ranks.broadcast_float(float(self.fits(**left))))

    def say(self, what: str) -> None:
        """Tell once what is given up."""
        if self._say is not None and what not in self._said:
            self._said.add(what)
            self._say(what)

    def _now(self) -> float:
        if self.limit and self._ranks.device.type == "cuda":
            torch.cuda.synchronize(self._ranks.device)
        return self._clock()
