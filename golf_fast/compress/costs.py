"""Computes what each step of compression, and each tensor, costs in bytes and in bits per byte, for reports only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from golf_fast.compress.artifact.container import Artifact, encode
from golf_fast.compress.artifact.inspection import overhead, shares
from golf_fast.compress.integers.groups import groups_of
from golf_fast.compress.integers.low_rank import output_error
from golf_fast.compress.stored import LEFT_SUFFIX, RIGHT_SUFFIX, Raw, Stored, dequantize
from golf_fast.config import CompressConfig

Evaluate = Callable[[Mapping[str, Tensor]], float]
"""Function from a state dict to its bits per byte on text that was used for no decision."""


@dataclass(frozen=True)
class Step:
    """Size in bytes and bits per byte of the model after a step of compression."""

    name: str
    bytes: int
    bpb: float | None


@dataclass(frozen=True)
class TensorCost:
    """The cost of a quantized tensor."""

    name: str
    form: str
    elements: int
    bits: float
    """Bits per element in the file, including scales and corrections."""
    error: float
    """Relative error of its elements: the root of their squared error over their sum of squares."""
    output_error: float | None
    """Relative error of its outputs, for the inputs of its Hessian; None: there is no Hessian."""
    bpb_change: float | None
    """Bits per byte that are lost if only this tensor is quantized; None: not measured."""


def steps(
    weights: Mapping[str, Tensor],
    pruned: Mapping[str, Tensor],
    artifact: Artifact,
    config: CompressConfig,
    evaluate: Evaluate | None = None,
    compare_zstd: bool = False,
) -> list[Step]:
    """One `Step` for the trained weights, and one for each step that changed them or their size.

    Args:
        weights: the trained weights, under public names.
        pruned: the weights after pruning.
        artifact: the artifact, as read back from its file.
        config: the settings that it was made with.
        evaluate: measures bits per byte; None: they are not measured.
        compare_zstd: whether to code the same tensors also by zstd, as the published submission does (takes seconds).
    """

    def step(name: str, size: int, state_dict: Mapping[str, Tensor]) -> Step:
        return Step(name, size, evaluate(state_dict) if evaluate else None)

    tensors = artifact.tensors
    uncorrected = {name: stored for name, stored in tensors.items() if not name.endswith((LEFT_SUFFIX, RIGHT_SUFFIX))}
    size = sum(tensor.nbytes for tensor in weights.values())
    found = [step("trained, averaged", size, weights)]
    if any(not torch.equal(weights[name], pruned[name]) for name in weights):
        found.append(step("pruned", size, pruned))
    found.append(step(f"quantized: {config.quantizer}", _packed_bytes(uncorrected), dequantize(uncorrected)))
    if len(uncorrected) < len(tensors):
        found.append(step("low-rank corrections", _packed_bytes(tensors), dequantize(tensors)))
    if compare_zstd and config.codec != "zstd":
        as_zstd = encode(tensors, artifact.model_config, **config.coding() | {"codec": "zstd"})
        found.append(Step("coded by zstd", len(as_zstd), found[-1].bpb))
    found.append(Step(f"coded by {config.codec}: the artifact", artifact.size, found[-1].bpb))
    return found


def tensor_costs(
    weights: Mapping[str, Tensor],
    artifact: Artifact,
    hessians: Mapping[str, Tensor] | None = None,
    evaluate: Evaluate | None = None,
) -> list[TensorCost]:
    """One `TensorCost` per quantized tensor, in the order of the file; `evaluate` is called once for each."""
    size = {share.name: share.size for share in shares(artifact)}
    restored = dequantize(artifact.tensors)
    before = evaluate(weights) if evaluate else 0.0
    found = []
    for name, stored in artifact.tensors.items():
        if isinstance(stored, Raw) or name not in weights:
            continue
        whole, approximate = weights[name].float().cpu(), restored[name]
        squares = float(whole.double().square().sum())
        lost = float((whole - approximate).double().square().sum())
        used = size[name] + size.get(name + LEFT_SUFFIX, 0.0) + size.get(name + RIGHT_SUFFIX, 0.0)
        found.append(
            TensorCost(
                name,
                f"int{stored.bits}" + (" + low rank" if name + LEFT_SUFFIX in artifact.tensors else ""),
                whole.numel(),
                8 * used / max(whole.numel(), 1),
                (lost / squares) ** 0.5 if squares else 0.0,
                output_error(whole, approximate, hessians[name]) ** 0.5 if hessians and name in hessians else None,
                evaluate({**weights, name: approximate}) - before if evaluate else None,
            )
        )
    return found


def bytes_by_group(artifact: Artifact, groups: Mapping[str, str] | None = None) -> dict[str, int]:
    """The bytes of each group of tensors in the file, the largest first; with "header" they add up to the file.

    Args:
        groups: the group of each tensor, as for `quantize`; a low-rank correction counts to the group of its matrix.
    """
    found = shares(artifact)
    matrices = {share.name: share.name.removesuffix(LEFT_SUFFIX).removesuffix(RIGHT_SUFFIX) for share in found}
    group_of = groups_of(dict.fromkeys(matrices.values()), groups)
    sizes: dict[str, float] = {"header": overhead(artifact.header, artifact.size)}
    for share in found:
        group = group_of[matrices[share.name]]
        sizes[group] = sizes.get(group, 0.0) + share.size
    # The cumulative sums are rounded, so that the rounded sizes add up exactly.
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    ends = [round(end) for end in itertools.accumulate(size for _, size in ordered)]
    return {name: end - start for (name, _), start, end in zip(ordered, [0, *ends], ends, strict=False)}


def _packed_bytes(tensors: Mapping[str, Stored]) -> int:
    """Size in bytes with bit-packed integers and without entropy coding."""
    return sum(
        stored.tensor.nbytes
        if isinstance(stored, Raw)
        else stored.scales.nbytes + (math.prod(stored.shape) * stored.bits + 7) // 8
        for stored in tensors.values()
    )
