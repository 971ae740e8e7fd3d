"""What flows past the blocks of a plan: shares of the stream, the embedding, skips and lanes, for each slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from golf_fast.config import ModelConfig
from golf_fast.model.plan import Plan


class Lanes(NamedTuple):
    """How the two streams of a slot go on (see `golf_fast.ops.lane_mix`): that of attention is the first, that of the
    MLP the second. Both are in the compute dtype.
    """

    kept: torch.Tensor
    """`[2, D]`, the shares of the streams; the first is of the stream as `Block.mix` returns it."""
    shares: torch.Tensor
    """`[2, 2]`, in each stream the shares of what attention and the MLP add, scaled."""


class Streams(NamedTuple):
    """What the slots of a plan make of the streams, in the compute dtype.

    A skip gate interpolates, `g * stream + (1 - g) * weight * skip`. Its `g` is a factor of the whole sum
    `stream + (1 - g) / g * weight * skip`, so it is a part of the share of the sum, and no activation is read for it.
    """

    shares: list[torch.Tensor]
    """`[2, D]`, of the stream and of the embedding in what the block adds to; of the first slot `[D]`, their sum."""
    skip_weights: list[torch.Tensor | None]
    """`[D]`, the weight of the skip; None where a slot takes none, or that of the slot before it."""
    lanes: list[Lanes | None]
    """How the streams go on where there are two."""


def streams_of(weights: Mapping[str, torch.Tensor], plan: Plan, config: ModelConfig, dtype: torch.dtype) -> Streams:
    """The streams of `plan`, of parameters by the names of their rows in the table."""
    layers = [slot.layer for slot in plan.slots]
    mix, skip_weights = weights["resid_mix"], weights["skip_weights"]
    first = mix[layers[0]]
    if layers != list(range(mix.shape[0])):
        mix = torch.stack([mix.unbind()[layer] for layer in layers])
    factors = _factors(weights, plan, config)
    of_stream = mix[:, 0]
    if any(factor is not None for factor in factors):
        one = torch.ones_like(of_stream[0])
        of_stream = of_stream * torch.stack([one if factor is None else factor for factor in factors])
    others = torch.stack((of_stream, mix[:, 1]), dim=1).to(dtype).unbind()
    if config.skip_gates:
        skip_weights = torch.exp(-weights["skip_gates"]) * skip_weights
    of_skips = skip_weights.to(dtype).unbind()
    return Streams(
        shares=[first.sum(0).to(dtype), *others[1:]],
        skip_weights=[
            None if slot.skip_row is None or plan.added(i) is None else of_skips[slot.skip_row]
            for i, slot in enumerate(plan.slots)
        ],
        lanes=[
            _lanes(weights, slot.layer, factors[i], dtype) if plan.in_lanes(i) else None
            for i, slot in enumerate(plan.slots)
        ],
    )


def _factors(weights: Mapping[str, torch.Tensor], plan: Plan, config: ModelConfig) -> list[torch.Tensor | None]:
    """What each slot's skip makes of the whole sum, `[D]`; None: nothing.

    A slot that takes its skip from the slot before it takes the stream itself, so the weight is a part of the factor.
    """
    skip_weights = weights["skip_weights"]
    gates = torch.sigmoid(weights["skip_gates"]) if config.skip_gates else None
    factors: list[torch.Tensor | None] = []
    for i, slot in enumerate(plan.slots):
        factor = None
        if slot.skip_row is not None:
            own = skip_weights[slot.skip_row] if plan.added(i) is None else None
            if gates is None:
                factor = None if own is None else 1 + own
            else:
                gate = gates[slot.skip_row]
                factor = gate if own is None else gate + (1 - gate) * own
        factors.append(factor)
    return factors


def _lanes(weights: Mapping[str, torch.Tensor], layer: int, factor: torch.Tensor | None, dtype: torch.dtype) -> Lanes:
    kept = weights["parallel_resid_lambdas"][layer][:, None].expand(2, weights["resid_mix"].shape[-1])
    if factor is not None:
        kept = kept * torch.stack((factor, torch.ones_like(factor)))
    # A row of the parameter is of an output, a row of the shares of a stream.
    return Lanes(kept.to(dtype), weights["parallel_post_lambdas"][layer].mT.to(dtype))
