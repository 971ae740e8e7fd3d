"""Keeps track of which targets are scored."""

from __future__ import annotations


class Coverage:
    """A mark for each target. A query of a range takes time proportional to its length at most.

    Args:
        targets: number of targets.
    """

    def __init__(self, targets: int) -> None:
        self.targets = targets
        self.count = 0
        """Number of marked targets."""
        self._marks = bytearray(targets)
        self._frontier = 0

    @property
    def complete(self) -> bool:
        """Whether all targets are marked; false if there are none."""
        return 0 < self.targets == self.count

    @property
    def frontier(self) -> int:
        """The first target that is not marked; `targets` if all are."""
        found = self._marks.find(0, self._frontier)
        self._frontier = self.targets if found < 0 else found
        return self._frontier

    def any(self, start: int, stop: int) -> bool:
        """Whether a target from `start` to `stop` (exclusive) is marked."""
        return self._marks.find(1, start, stop) >= 0

    def all(self, start: int, stop: int) -> bool:
        """Whether all targets from `start` to `stop` (exclusive) are marked."""
        return self._marks.find(0, start, stop) < 0

    def mark(self, start: int, stop: int) -> None:
        """Mark the targets from `start` to `stop` (exclusive); some of them may be marked already."""
        self.count += stop - start - self._marks.count(1, start, stop)
        self._marks[start:stop] = b"\1" * (stop - start)
