"""The weights that mix the residual stream between blocks: shares of stream and embedding, skips and lanes, for each
slot of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from golf_fast.config import ModelConfig
from golf_fast.model.plan import Plan


class Lanes(NamedTuple):
    """Mixing weights of a slot with two residual streams, first that of attention, then that of the MLP (see
    `golf_fast.ops.lane_mix`), in the compute dtype.
    """

    kept: torch.Tensor
    """`[2, D]`, the factor of each incoming stream; the first applies to the stream as `Block.mix` returns it."""
    shares: torch.Tensor
    """`[2, 2]`, for each stream (rows) the factors of the outputs of attention and of the MLP (columns)."""


class Streams(NamedTuple):
    """The mixing weights of each slot of a plan, in the compute dtype.

    A skip gate interpolates, `g * stream + (1 - g) * weight * skip`. Its `g` is a factor of the whole sum
    `stream + (1 - g) / g * weight * skip`, so it is folded into the share of that sum and costs no pass over
    activations.
    """

    shares: list[torch.Tensor]
    """For each slot `[2, D]`, the factors of the stream and of the embedding in the block's input; for the first slot
    `[D]`, their sum."""
    skip_weights: list[torch.Tensor | None]
    """For each slot `[D]`, the weight of its skip; None: it has no skip, or its skip is the slot directly before it."""
    lanes: list[Lanes | None]
    """For each slot with two residual streams, their mixing weights; None: the slot has one stream."""


def streams_of(weights: Mapping[str, torch.Tensor], plan: Plan, config: ModelConfig, dtype: torch.dtype) -> Streams:
    """The mixing weights of the slots of `plan`, from the parameters by the names of their rows in the table."""
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
    """For each slot the factor `[D]` that its skip puts on the whole sum; None: there is no factor.

    A skip from the slot directly before is the stream itself, so its weight becomes part of the factor.
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
    # A row of the parameter belongs to an output (attention, MLP), a row of `shares` to a stream: hence the transpose.
    return Lanes(kept.to(dtype), weights["parallel_post_lambdas"][layer].mT.to(dtype))
