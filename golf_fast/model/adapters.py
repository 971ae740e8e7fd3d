"""Low-rank additions to a model's matrices, other ones for each row of a batch (LoRA, Hu et al., arXiv 2106.09685).

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
"""Of a slot of the plan: queries, keys and values; from the attention's input to its output, and the MLP's alike."""
HEAD = -1
"""In place of a slot, for the adapter of the logits."""


class Place(NamedTuple):
    """Where an adapter is: a slot of the plan (or `HEAD`), and which of `PROJECTIONS` (or "head")."""

    slot: int
    name: str


class LowRank(NamedTuple):
    """What is added for an input `x` `[n, T, in]` is `x a^T b^T`, `[n, T, out]`."""

    a: torch.Tensor
    """`[n, r, in]`."""
    b: torch.Tensor
    """`[n, out, r]`."""


@dataclass(frozen=True)
class Adapters:
    """The additions of a pass.

    Attributes:
        pairs: by place; a place without one adds nothing.
        scale: factor of every addition.
    """

    pairs: Mapping[Place, LowRank]
    scale: float = 1.0

    def add(
        self, y: torch.Tensor, x: torch.Tensor, slot: int, name: str, gain: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """`y` `[n, T, out]` plus what the adapter of a place makes of `x` `[n, T, in]`, times `gain`, `[out]` or one
        number."""
        pair = self.pairs.get(Place(slot, name))
        if pair is None:
            return y
        a, b = (part.to(x.dtype) for part in pair)
        added = self.scale * torch.bmm(torch.bmm(x, a.mT), b.mT)
        return y + (added * gain if isinstance(gain, torch.Tensor) or gain != 1 else added)


@dataclass(frozen=True)
class SlotAdapters:
    """The additions in one slot of the plan."""

    adapters: Adapters
    slot: int

    def add(self, y: torch.Tensor, x: torch.Tensor, name: str, gain: torch.Tensor | float = 1.0) -> torch.Tensor:
        """As `Adapters.add`, in this slot."""
        return self.adapters.add(y, x, self.slot, name, gain)


def widths(config: ModelConfig, plan: Plan, names: Collection[str]) -> dict[Place, tuple[int, int]]:
    """Input and output widths of the adapters named: in every slot of the plan, and of the logits for "head"."""
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
    """New adapters that add nothing yet: every row starts from the same values, whatever rows are beside it.

    Attributes:
        a: by place, `[r, in]`, uniform within 1 / sqrt(in).
        outputs: by place, the output width.
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
        """Draw the first factors from a generator seeded with `seed`."""
        generator = torch.Generator().manual_seed(seed)
        a = {
            place: torch.empty(rank, columns).uniform_(-1, 1, generator=generator).div_(math.sqrt(columns))
            for place, (columns, _) in sizes.items()
        }
        a = {place: tensor.to(device, dtype) for place, tensor in a.items()}
        return cls(a, {place: rows for place, (_, rows) in sizes.items()}, scale, rank)

    def rows(self, n: int) -> Adapters:
        """Adapters for `n` rows, which can be trained."""
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
