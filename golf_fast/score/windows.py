"""Sliding windows as arithmetic: which window scores which target.

Target i is token i + 1, predicted from the tokens up to i. Window k reads the tokens from k * stride on, `window` of
them or as many as there are, and scores from the target where the window before it ended.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Windows:
    """The windows over `targets` targets. Each target is scored by exactly one, in order.

    The first window scores all of its targets, every other one its last `stride`, and the last one the remaining
    targets. None starts after the first that reaches the end, so only the last can be short.
    """

    targets: int
    window: int
    stride: int

    def __post_init__(self) -> None:
        assert self.targets >= 1
        assert 1 <= self.stride <= self.window

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 + max(0, -(-(self.targets - self.window) // self.stride))

    def first_scored(self, k: int) -> int:
        """The first target that window `k` scores."""
        return 0 if k == 0 else self.window + (k - 1) * self.stride

    def end(self, k: int) -> int:
        """The target after the last that window `k` scores."""
        return min(self.window + k * self.stride, self.targets)

    def scoring_from(self, start: int, stop: int) -> tuple[int, int]:
        """The windows `(first, after last)` whose first scored target is in `start` to `stop` (exclusive)."""
        return self._before(start), self._before(stop)

    def _before(self, target: int) -> int:
        """How many windows have their first scored target before `target`."""
        if target <= 0:
            return 0
        return min(self.count, 1 + max(0, -(-(target - self.window) // self.stride)))
