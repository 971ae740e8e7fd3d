"""The plan of a forward pass: the order in which layers run, and the connections that skip layers (docs/seed.md,
docs/top.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from golf_fast.config import ModelConfig


@dataclass(frozen=True)
class Slot:
    """A place in a plan: one run of a layer.

    Attributes:
        layer: the layer whose weights run here.
        skip_from: the earlier slot whose output is added to the stream first; None: there is no skip.
        skip_row: the row of `skip_weights` that weighs the skip; None: there is no skip.
    """

    layer: int
    skip_from: int | None = None
    skip_row: int | None = None


@dataclass(frozen=True)
class Plan:
    """The structure of a forward pass through the blocks.

    Attributes:
        slots: the slots in the order in which they run. The first takes no skip.
        backout_from: the slot of whose output a share is subtracted at the end; None: there is no backout.
        lanes_from: the first slot in which attention and MLP have separate residual streams; None: they share one.
    """

    slots: tuple[Slot, ...]
    backout_from: int | None = None
    lanes_from: int | None = None

    def __post_init__(self) -> None:
        taken = [slot.skip_from for slot in self.slots if slot.skip_from is not None]
        assert len(set(taken)) == len(taken), f"an output is taken twice: {taken}"
        for i, slot in enumerate(self.slots):
            assert (slot.skip_from is None) == (slot.skip_row is None), slot
            assert slot.skip_from is None or 0 <= slot.skip_from < i, f"slot {i} takes what comes later: {slot}"
            assert self.added(i) is None or i - 1 not in self.kept, f"slot {i} hides the output of the one before it"
        if self.lanes_from is not None:
            one = [*self.kept, -1 if self.backout_from is None else self.backout_from, 0]
            assert max(one) < self.lanes_from < len(self.slots), f"slots from {self.lanes_from} on have no one output"

    def starts(self, windows: Sequence[int | None], first: int) -> list[int]:
        """For each slot, the first position whose input is needed to compute the last slot's outputs from `first` on.

        Args:
            windows: the attention window of each slot, in positions; None: attention sees all earlier positions.
            first: the first position whose output is wanted.
        """
        starts = []
        for window in reversed(windows):
            first = 0 if window is None else max(0, first - window + 1)
            starts.append(first)
        return starts[::-1]

    def added(self, i: int) -> int | None:
        """The slot whose output slot `i` adds to the stream; None if it has no skip, or if its skip comes from the slot
        directly before it, whose output is the stream itself."""
        source = self.slots[i].skip_from
        return None if source == i - 1 else source

    def in_lanes(self, i: int) -> bool:
        """Whether attention and MLP of slot `i` have separate residual streams."""
        return self.lanes_from is not None and i >= self.lanes_from

    @property
    def kept(self) -> set[int]:
        """The slots whose outputs are kept for a later slot."""
        added = (self.added(i) for i in range(len(self.slots)))
        return {source for source in added if source is not None}


def plan_of(config: ModelConfig, looped: bool = True) -> Plan:
    """The plan of a model: slots of the second half take the outputs of the first half as skips, in reverse order.

    Args:
        looped: whether the layers of the loop, if the model has one, are repeated.
    """
    order = config.looped_order if looped else tuple(range(config.layers))
    half = len(order) // 2
    skips = [(half - 1 - j, j) for j in range(half)]
    taken: list[tuple[int, int] | tuple[()]] = [()] * half + [*skips] + [()] * (len(order) - 2 * half)
    backout = len(order) - 1 - order[::-1].index(config.backout_block) if config.backout else None
    lanes = order.index(config.lanes_from) if config.lanes_from else None
    return Plan(tuple(Slot(layer, *skip) for layer, skip in zip(order, taken, strict=True)), backout, lanes)
