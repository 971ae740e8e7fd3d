"""Low-rank adapters of a model's matrices, separate for each row of a batch (LoRA, Hu et al., arXiv 2106.09685).

Shapes: n rows of a batch, T positions, r rank.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from golf_fast.config import ModelConfig
from golf_fast.model.plan import Plan

PROJECTIONS = ("q", "k", "v", "o", "mlp")
"""Adapters of a slot of the plan: of the queries, the keys and the values; "o" maps the input of attention to an
addition to its output, "mlp" does the same for the MLP."""
HEAD = -1
"""Number that stands in place of a slot for the adapter of the logits."""


class Place(NamedTuple):
    """Location of an adapter: a slot of the plan and one of `PROJECTIONS`, or `HEAD` and "head"."""

    slot: int
    name: str


class LowRank(NamedTuple):
    """The factors of an adapter: for an input `x` `[n, T, in]` it adds `x a^T b^T`, `[n, T, out]`."""

    a: torch.Tensor
    """First factor, `[n, r, in]`."""
    b: torch.Tensor
    """Second factor, `[n, out, r]`."""


@dataclass(frozen=True)
class Adapters:
    """The adapters of a forward pass.

    Attributes:
        pairs: the factors of each adapter; at a place that is missing nothing is added.
        scale: factor of every addition.
    """

    pairs: Mapping[Place, LowRank]
    scale: float = 1.0

    def add(
        self, y: torch.Tensor, x: torch.Tensor, slot: int, name: str, gain: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """`y` `[n, T, out]` plus `gain` (`[out]`, or one number) times the output of the adapter at a place for the
        input `x` `[n, T, in]`."""
        pair = self.pairs.get(Place(slot, name))
        if pair is None:
            return y
        a, b = (part.to(x.dtype) for part in pair)
        added = self.scale * torch.bmm(torch.bmm(x, a.mT), b.mT)
        return y + (added * gain if isinstance(gain, torch.Tensor) or gain != 1 else added)


@dataclass(frozen=True)
class SlotAdapters:
    """The adapters of one slot of the plan."""

    adapters: Adapters
    slot: int

    def add(self, y: torch.Tensor, x: torch.Tensor, name: str, gain: torch.Tensor | float = 1.0) -> torch.Tensor:
        """As `Adapters.add`, for the adapter `name` of this slot."""
        return self.adapters.add(y, x, self.slot, name, gain)


def widths(config: ModelConfig, plan: Plan, names: Collection[str]) -> dict[Place, tuple[int, int]]:
    """Input and output width of each adapter: those of `PROJECTIONS` in `names` for every slot, and "head" if named."""
    outputs = {"q": config.dim, "k": config.kv_dim, "v": config.kv_dim, "o": config.dim, "mlp": config.dim}
    found = {
        Place(slot, name): (config.dim, outputs[name])
        for slot in range(len(plan.slots))
        for name in PROJECTIONS
        if name in names
    }
    return found | ({Place(HEAD, "head"): (config.dim, config.vocab_size)} if "head" in names else {})


@dataclass(frozen=True)
class Fresh:
    """Initial values of adapters, the same for every row; an adapter adds nothing before it is trained.

    Attributes:
        a: the first factor `[r, in]` of each place, uniform in +-1 / sqrt(in); the second factor starts as 0.
        outputs: the output width of each place.
        scale: factor of every addition.
        rank: rank of the adapters.
    """

    a: dict[Place, torch.Tensor]
    outputs: dict[Place, int]
    scale: float
    rank: int = field(default=1)

    @classmethod
    def drawn(
        cls,
        sizes: Mapping[Place, tuple[int, int]],
        rank: int,
        scale: float,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> Fresh:
        """Draw the first factors from a generator seeded with `seed`.

        Args:
            sizes: input and output width of each place, as from `widths`.
            rank: rank of the adapters.
            scale: factor of every addition.
        """
        generator = torch.Generator().manual_seed(seed)
        a = {
            place: torch.empty(rank, columns).uniform_(-1, 1, generator=generator).div_(math.sqrt(columns))
            for place, (columns, _) in sizes.items()
        }
        a = {place: tensor.to(device, dtype) for place, tensor in a.items()}
        return cls(a, {place: rows for place, (_, rows) in sizes.items()}, scale, rank)

    def rows(self, n: int) -> Adapters:
        """New trainable adapters for `n` rows."""
        return Adapters(
            {
                place: LowRank(
                    a.expand(n, -1, -1).clone().requires_grad_(),
                    a.new_zeros(n, self.outputs[place], self.rank).requires_grad_(),
                )
                for place, a in self.a.items()
            },
            self.scale,
        )
