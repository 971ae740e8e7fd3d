"""The end of the training time, for the work after the last step that reads training tokens (docs/rules.md, V9)."""

from __future__ import annotations

import time

from golf_fast.distributed import Ranks


class OutOfTime(Exception):
    """The training time is over; raised on every rank at the same place."""


class Deadline:
    """Runs from its construction on. Work that reads training tokens calls `check` now and then."""

    def __init__(self, limit: float, ranks: Ranks) -> None:
        """
        Args:
            limit: seconds; infinite for no limit.
            ranks: who work together; rank 0's clock counts.
        """
        self.limit = limit
        self.ranks = ranks
        self.began = time.perf_counter()

    def check(self) -> float:
        """Seconds since the construction, the same on every rank. Every rank must call it as often as the others.

        Raises:
            OutOfTime: they are more than the limit.
        """
        seconds = self.ranks.broadcast_float(time.perf_counter() - self.began)
        if seconds > self.limit:
            raise OutOfTime
        return seconds
