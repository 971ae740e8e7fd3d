"""Quantization of a state dict: chooses the form of each tensor and computes it (seed.md section 5, steps 2 to 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from golf_fast.compress.integers.gptq import gptq_values
from golf_fast.compress.integers.groups import bits_of, groups_of
from golf_fast.compress.integers.low_rank import correct
from golf_fast.compress.integers.low_rank_weights import correct_weights
from golf_fast.compress.integers.rounding import (
    FLOAT16_MANTISSA_BITS,
    Matrix,
    absmax_scales,
    coarser,
    nearest,
    quantize_absmax,
    quantize_int8,
    sigma_scales,
)
from golf_fast.compress.integers.trellis import BITS as TRELLIS_BITS
from golf_fast.compress.integers.trellis import Trellis, trellis_scales
from golf_fast.compress.stored import Quantized, Raw, Stored
from golf_fast.config import CompressConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError


def quantize(
    state_dict: Mapping[str, torch.Tensor],
    config: CompressConfig,
    hessians: Mapping[str, torch.Tensor] | None = None,
    ranks: Ranks | None = None,
    check: Callable[[], object] = lambda: None,
    groups: Mapping[str, str] | None = None,
) -> dict[str, Stored]:
    """Quantize each tensor to the first form of seed.md section 5 that applies, with the quantizer of `config`.

    Args:
        state_dict: finite tensors under public names, on any device.
        config: the settings of compression.
        hessians: for matrices by name, the sum of `x x^T` over their inputs, `[cols, cols]` float32; used by gptq and
            by the low-rank correction. A matrix without one is rounded without GPTQ, which runs on their device.
        ranks: the ranks that share the work of GPTQ; all call this with equal arguments and get the same result.
        check: called periodically by GPTQ, equally often on every rank; an exception that it raises is passed on.
        groups: the group of every tensor (mlp, attention, bigram, embedding, gate or control); None: by the published
            names.

    Returns:
        A `Stored` on the CPU for each name, and two more for each low-rank correction.

    Raises:
        InputError: a value is not finite or does not fit float16, no rule covers the dtype of a tensor, or `groups` has
            no group for it.
    """
    stored: dict[str, Stored] = {}
    matrices: list[Matrix] = []
    group = groups_of(state_dict, groups)
    for name, tensor in state_dict.items():
        form = _form(name, tensor.detach().contiguous(), group[name], config)
        if isinstance(form, Matrix):
            matrices.append(form)
        else:
            stored[name] = form
    hessians = hessians or {}
    by_gptq = [m for m in matrices if config.uses_gptq and m.name in hessians and m.weights.ndim == 2]
    trellis = Trellis(config.trellis_states, config.trellis_rate) if config.uses_trellis else None
    values = gptq_values(by_gptq, hessians, ranks, check, trellis) if by_gptq else {}
    symmetric = config.quantizer != "absmax"
    for matrix in matrices:
        found = values.get(matrix.name, matrix.values)
        if found is None and trellis:
            found = trellis.integers(matrix.weights, matrix.scales)
        elif found is None:
            found = nearest(matrix.weights, matrix.scales, matrix.bits, symmetric=symmetric)
        stored[matrix.name] = Quantized(found, matrix.scales, matrix.bits)
    ordered = {name: stored[name] for name in state_dict}
    if not config.low_rank:
        return ordered
    weights = {matrix.name: matrix.weights for matrix in matrices}
    if config.low_rank_error == "weights":
        return ordered | correct_weights(weights, ordered, config)
    return ordered | correct(weights, ordered, hessians, config)


def _form(name: str, tensor: torch.Tensor, group: str, config: CompressConfig) -> Stored | Matrix:
    """The stored form of a tensor, or the matrix and scales from which its integers are still to be computed."""
    kept = kept_as(name, tensor, group, config)
    if not tensor.is_floating_point():
        return Raw(tensor.cpu())
    weights = tensor.float()
    if not _all_finite(weights):
        raise InputError(f"{name}: holds {_first_not_finite(weights)}; only finite weights can be stored")
    if kept is not None:
        return Raw((_as_float16(name, weights) if kept == torch.float16 else weights).cpu())
    bits = bits_of(group, config)
    if config.quantizer == "absmax" and group == "embedding" and bits == 8:
        return Quantized(*quantize_int8(weights.cpu()), bits)
    try:
        if group == "gate":
            scales = absmax_scales(weights.cpu(), bits)
            return Matrix(name, weights, scales, bits, nearest(weights.cpu(), scales, bits, symmetric=True))
        return _matrix(name, weights, bits, config.clip_of(group), config)
    except ValueError as error:
        largest = f"{weights.abs().max():g}"
        raise InputError(f"{name}: its largest magnitude is {largest}; its scale must fit float16") from error


def _matrix(name: str, weights: torch.Tensor, bits: int, clip_sigma: float, config: CompressConfig) -> Matrix:
    """The matrix with its scales, and with its integers if the quantizer computes both together.

    Raises:
        ValueError: a scale does not fit float16.
    """
    if config.quantizer == "absmax" and config.scale_mantissa_bits == FLOAT16_MANTISSA_BITS:
        values, scales = quantize_absmax(weights, bits)
        return Matrix(name, weights, scales, bits, values)
    weights = weights.cpu()
    if config.uses_trellis:
        scales = trellis_scales(weights, bits, clip_sigma, config.scale_mantissa_bits)
        bits = TRELLIS_BITS
    elif config.quantizer == "absmax":
        scales = coarser(absmax_scales(weights, bits), config.scale_mantissa_bits)
    else:
        scales = coarser(sigma_scales(weights, bits, clip_sigma), config.scale_mantissa_bits)
    if not bool(torch.isfinite(scales).all()):
        raise ValueError("a scale does not fit float16")
    return Matrix(name, weights, scales, bits)


def kept_as(name: str, tensor: torch.Tensor, group: str, config: CompressConfig) -> torch.dtype | None:
    """The dtype in which a tensor of a group is stored without quantization; None: it is quantized.

    Raises:
        InputError: the tensor is complex.
    """
    if tensor.is_complex():
        raise InputError(f"{name}: its dtype is {tensor.dtype}; only real tensors can be stored")
    if not tensor.is_floating_point():
        return tensor.dtype
    if group == "gate" and config.gate_int8:
        return None
    if tensor.numel() <= config.fp16_max_elements:
        return torch.float16
    if group in ("gate", "control"):
        return torch.float32
    return torch.float16 if any(kept in name for kept in config.fp16_keep) else None


def _as_float16(name: str, weights: torch.Tensor) -> torch.Tensor:
    half = weights.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise InputError(f"{name}: its largest magnitude is {weights.abs().max():g}; float16 ends at 65504")
    return half


def _all_finite(weights: torch.Tensor) -> bool:
    """Whether all weights are finite, in one pass without extra memory (the extremes of a tensor with NaN are NaN)."""
    return weights.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(weights))).all())


def _first_not_finite(weights: torch.Tensor) -> str:
    flat = weights.reshape(-1)
    position = int(torch.isfinite(flat).logical_not().nonzero()[0])
    return f"{flat[position].item()} at element {position}"
