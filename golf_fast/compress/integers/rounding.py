"""Formulas that round one matrix to small integers with a scale for each row."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from golf_fast.compress.integers.quantiles import row_quantiles
from golf_fast.compress.stored import as_rows
from golf_fast.ops import bitpack

INT8_CLIP_QUANTILE = 99.99984 / 100.0
SMALLEST_SCALE = torch.finfo(torch.float16).tiny
FLOAT16_MANTISSA_BITS = 10


@dataclass(frozen=True)
class Matrix:
    """A tensor to be quantized, with its scales."""

    name: str
    weights: torch.Tensor
    """The weights in float32, on any device."""
    scales: torch.Tensor
    """The value of the integer 1 in each row: float16 [rows] ([1] if not 2-D), on the CPU."""
    bits: int
    values: torch.Tensor | None = None
    """The integers, int8 on the CPU; None: they are still to be computed."""


def absmax_scales(weights: torch.Tensor, bits: int) -> torch.Tensor:
    """Scales that map the largest magnitude of a row to `c = 2^(bits-1) - 1` (seed.md section 5, step 3).

    A scale is at least the smallest normal float16. A tensor that is not 2-D has one scale without this lower bound; it
    may round to 0, and then all integers except those of zeros are at a limit and stand for 0.

    Args:
        weights: float32, any shape with at least one element.
        bits: 2 to 8.

    Returns:
        float16 [rows] ([1] if not 2-D), infinite where a row is too large for float16.
    """
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    scales = (rows.abs().amax(dim=1) / limit_of(bits)).clamp_min(1e-12).to(torch.float16)
    return scales.clamp_min(SMALLEST_SCALE) if weights.ndim == 2 else scales


def sigma_scales(weights: torch.Tensor, bits: int, clip_sigma: float) -> torch.Tensor:
    """Scales that map `clip_sigma` root mean squares of a row to `c = 2^(bits-1) - 1`.

    For a row of mean 0 the root mean square is the standard deviation, but it does not vanish for a constant row. An
    entropy coder then needs about `log2(4.13 c / clip_sigma)` bits per weight whatever `bits` is, as long as few
    magnitudes are clipped.

    Args and returns: as `absmax_scales`; each scale is at least the smallest normal float16.
    """
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    # Sums in float64, so that the result does not depend on the number of threads.
    rms = rows.double().square().mean(dim=1).sqrt()
    return (rms * (clip_sigma / limit_of(bits))).to(torch.float16).clamp_min(SMALLEST_SCALE)


def coarser(scales: torch.Tensor, mantissa_bits: int) -> torch.Tensor:
    """Positive float16 scales rounded to `mantissa_bits` (0 to 10) bits of mantissa, ties up. Neighbouring values then
    differ by a factor of about `1 + 2^-mantissa_bits`, and the bits that are always 0 cost nothing in a file."""
    dropped = FLOAT16_MANTISSA_BITS - mantissa_bits
    if dropped == 0:
        return scales
    codes = scales.view(torch.int16).to(torch.int32)
    rounded = (codes + (1 << (dropped - 1))) >> dropped << dropped
    return rounded.to(torch.int16).view(torch.float16)


def nearest(weights: torch.Tensor, scales: torch.Tensor, bits: int, *, symmetric: bool) -> torch.Tensor:
    """The nearest integers, ties to even, within `[-c-1, c]`, or `[-c, c]` if symmetric; int8 of the same shape."""
    limit = limit_of(bits)
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    lowest = -limit if symmetric else -limit - 1
    scaled = torch.round(rows / scales.float()[:, None]).nan_to_num_(nan=0.0, posinf=limit, neginf=lowest)
    return scaled.clamp_(lowest, limit).to(torch.int8).reshape(weights.shape)


def quantize_absmax(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The integers of the published submission, within [-c-1, c], and their float16 scales.

    Args:
        weights: finite float32, any shape with at least one element, on any device. If `golf_fast.ops.bitpack` supports
            the width, it quantizes on that device in one pass, and packed integers are transferred.
        bits: 2 to 8.

    Returns:
        int8 values of the same shape and float16 scales, [rows] ([1] if not 2-D), both on the CPU.

    Raises:
        ValueError: a row is too large for a float16 scale.
    """
    if bits in bitpack.WIDTHS:
        planes, scales = bitpack.quantize_pack(weights, bits)
        return bitpack.unpack(planes.cpu(), bits, weights.shape), scales.cpu()
    weights = weights.cpu()
    scales = absmax_scales(weights, bits)
    if not bool(torch.isfinite(scales).all()):
        raise ValueError(f"weights: the largest magnitude is {weights.abs().max():g}; its scale must fit float16")
    return nearest(weights, scales, bits, symmetric=False), scales


def quantize_int8(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric 8-bit integers with each row clipped at its 0.9999984 quantile (seed.md section 5, step 4).

    Weights are divided by the scale before that is rounded to float16.

    Args:
        weights: float32, any shape with at least one element.

    Returns:
        int8 values of the same shape within ±127, and scales: float16 [rows], each at least 1/127; float32 [1] if
        the tensor is not 2-D, then 1 for a tensor of zeros.
    """
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    clip = row_quantiles(rows.abs(), INT8_CLIP_QUANTILE)
    floored = (clip / 127.0).clamp_min(1.0 / 127.0)
    scales = floored if weights.ndim == 2 else torch.where(clip > 0, clip / 127.0, 1.0)
    clipped = torch.maximum(torch.minimum(rows, clip[:, None]), -clip[:, None])
    values = torch.round(clipped / scales[:, None]).clamp_(-127, 127).to(torch.int8).reshape(weights.shape)
    return values, scales.to(torch.float16) if weights.ndim == 2 else scales


def limit_of(bits: int) -> int:
    """The largest integer of a width."""
    return (1 << bits - 1) - 1
