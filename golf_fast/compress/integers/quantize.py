"""Weights to small integers: which form each tensor takes, and its numbers (seed.md section 5, steps 2 to 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from golf_fast.compress.integers.gptq import gptq_values
from golf_fast.compress.integers.low_rank import correct
from golf_fast.compress.integers.rounding import Matrix, absmax_scales, coarser, nearest, quantize_int8, sigma_scales
from golf_fast.compress.stored import Raw, Stored, store_integers
from golf_fast.config import CompressConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError

CONTROL_NAMES = (
    "attn_scale",
    "mlp_scale",
    "resid_mix",
    "q_gain",
    "skip_weights",
    "smear.gate",
    "bigram.scale",
    "backout_lambda",
)
"""Parts of the names of tensors that steer the others and so are never quantized."""

WIDTHS = ("mlp_bits", "attention_bits", "bigram_bits", "embedding_bits")
"""The settings that say how wide the integers of a group of tensors are."""


def quantize(
    state_dict: Mapping[str, torch.Tensor],
    config: CompressConfig,
    hessians: Mapping[str, torch.Tensor] | None = None,
    ranks: Ranks | None = None,
    check: Callable[[], object] = lambda: None,
) -> dict[str, Stored]:
    """Give each tensor the first form of seed.md section 5 that fits it, under the quantizer of `config`.

    Args:
        state_dict: finite tensors under their public names, on any device.
        hessians: name -> float32 `[cols, cols]`, the sum of `x x^T` over the inputs of a matrix; used under gptq and by
            the low-rank correction. A tensor without one is rounded to nearest. GPTQ runs where they are.
        ranks: who shares the work of GPTQ; every rank calls this with equal arguments and gets the same result.
        check: called now and then while GPTQ works, as often on every rank; what it raises ends the work.

    Returns:
        A `Stored` for each name, on the CPU, and two more for each low-rank correction (`low_rank`).

    Raises:
        InputError: a value is not finite or does not fit float16, or a tensor has a type that no rule covers.
    """
    stored: dict[str, Stored] = {}
    matrices: list[Matrix] = []
    for name, tensor in state_dict.items():
        form = _form(name, tensor.detach().cpu().contiguous(), config)
        if isinstance(form, Matrix):
            matrices.append(form)
        else:
            stored[name] = form
    hessians = hessians or {}
    by_gptq = [m for m in matrices if config.quantizer == "gptq" and m.name in hessians and m.weights.ndim == 2]
    values = gptq_values(by_gptq, hessians, ranks, check)
    for matrix in matrices:
        if matrix.name not in values:
            values[matrix.name] = nearest(
                matrix.weights, matrix.scales, matrix.bits, symmetric=config.quantizer != "absmax"
            )
        stored[matrix.name] = store_integers(values[matrix.name], matrix.scales, matrix.bits)
    ordered = {name: stored[name] for name in state_dict}
    return ordered | correct({m.name: m.weights for m in matrices}, ordered, hessians, config)


def _form(name: str, tensor: torch.Tensor, config: CompressConfig) -> Stored | Matrix:
    """What a tensor becomes, or the matrix and scales from which its integers are made."""
    kept = kept_as(name, tensor, config)
    if not tensor.is_floating_point():
        return Raw(tensor)
    weights = tensor.float()
    if not bool(torch.isfinite(weights).all()):
        raise InputError(f"{name}: holds {_first_not_finite(weights)}; only finite weights can be stored")
    if kept is not None:
        return Raw(_as_float16(name, weights) if kept == torch.float16 else weights)
    group, bits = bits_of(name, config)
    values = None
    if config.quantizer != "absmax":
        scales = coarser(sigma_scales(weights, bits, config.clip_sigma), config.scale_mantissa_bits)
    elif (group, bits) == ("embedding_bits", 8):
        values, scales = quantize_int8(weights)
    else:
        scales = coarser(absmax_scales(weights, bits), config.scale_mantissa_bits)
    if not bool(torch.isfinite(scales).all()):
        raise InputError(f"{name}: its largest magnitude is {weights.abs().max():g}; its scale must fit float16")
    return Matrix(name, weights, scales, bits) if values is None else store_integers(values, scales, bits)


def kept_as(name: str, tensor: torch.Tensor, config: CompressConfig) -> torch.dtype | None:
    """The dtype in which a tensor is kept as it is; None: it is quantized.

    Raises:
        InputError: the tensor is complex.
    """
    if tensor.is_complex():
        raise InputError(f"{name}: its dtype is {tensor.dtype}; only real tensors can be stored")
    if not tensor.is_floating_point():
        return tensor.dtype
    if tensor.numel() <= config.fp16_max_elements:
        return torch.float16
    if any(control in name for control in CONTROL_NAMES):
        return torch.float32
    return torch.float16 if any(kept in name for kept in config.fp16_keep) else None


def bits_of(name: str, config: CompressConfig) -> tuple[str, int]:
    """Which of `WIDTHS` a tensor belongs to, and its value."""
    if ".mlp." in name:
        group = "mlp_bits"
    elif ".attn." in name:
        group = "attention_bits"
    else:
        group = "bigram_bits" if "bigram" in name else "embedding_bits"
    return group, getattr(config, group)


def _as_float16(name: str, weights: torch.Tensor) -> torch.Tensor:
    half = weights.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise InputError(f"{name}: its largest magnitude is {weights.abs().max():g}; float16 ends at 65504")
    return half


def _first_not_finite(weights: torch.Tensor) -> str:
    flat = weights.reshape(-1)
    position = int(torch.isfinite(flat).logical_not().nonzero()[0])
    return f"{flat[position].item()} at element {position}"
