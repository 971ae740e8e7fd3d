"""Which targets of a text are scored."""

from __future__ import annotations


class Coverage:
    """A mark for each target; what is asked of a range costs no more than its length.

    Args:
        targets: how many there are.
    """

    def __init__(self, targets: int) -> None:
        self.targets = targets
        self.count = 0
        """Targets that are marked."""
        self._marks = bytearray(targets)
        self._frontier = 0

    @property
    def complete(self) -> bool:
        """Whether there are targets, and all are marked."""
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
        """Mark the targets from `start` to `stop` (exclusive), of which some may be."""
        self.count += stop - start - self._marks.count(1, start, stop)
        self._marks[start:stop] = b"\1" * (stop - start)
