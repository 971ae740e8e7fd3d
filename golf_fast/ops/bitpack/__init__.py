"""int5 and int6 values packed by bit planes, with an fp16 scale for each row.

The layout is told in `reference.py` (and, for C++ and CUDA, in csrc/bitpack/layout.hpp): n values of b bits take
`planes_size(n, b)` = 16 b * ceil(n / 128) bytes. The arithmetic of quantization is that of the published script.

The functions keep no graph: weights are detached, and no gradient reaches through them. Backends: `native` (C++ with
AVX2 and AVX-512, CUDA), and `plain`, which is the reference, see `golf_fast.ops.backends`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from golf_fast.ops import backends
from golf_fast.ops.bitpack import native, operators, reference
from golf_fast.ops.bitpack.reference import planes_size
from golf_fast.ops.checks import refuse, require_dtype, require_like

__all__ = ["WIDTHS", "pack", "planes_size", "quantize_pack", "unpack", "unpack_dequantize"]

WIDTHS = (5, 6)
"""Widths of the integers, in bits."""

OP = "bitpack"

backends.register(
    OP,
    backends.Candidate("native", "golf_fast._C has it for this device", native.obstacle),
    # No step waits for it, so a GPU without CUDA in the extension trains all the same.
    backends.Candidate("plain", "PyTorch's own; weights are packed and unpacked once a run", backends.anywhere),
    backends.REFERENCE,
)


def pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack integers.

    Args:
        values: any shape and strides, int8, from -2^(bits-1) to 2^(bits-1) - 1.
        bits: 5 or 6.

    Returns:
        `[planes_size(values.numel(), bits)]` uint8.

    Raises:
        ValueError: wrong dtype or bits, or a value out of range (not found out while a CUDA graph is recorded).
    """
    _check_bits(bits)
    require_like(OP, "values", values, values, "values", dtype=torch.int8)
    planes: torch.Tensor = operators.pack(values, bits)
    return planes


def unpack(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    """The integers that `pack` took.

    Args:
        planes: `[planes_size(numel of shape, bits)]` uint8.
        bits: 5 or 6.
        shape: shape of the result.

    Returns:
        `shape` int8.

    Raises:
        ValueError: wrong dtype, bits or size.
    """
    _check_planes(planes, bits, shape)
    values: torch.Tensor = operators.unpack(planes, bits, shape)
    return values


def unpack_dequantize(
    planes: torch.Tensor,
    scales: torch.Tensor,
    bits: int,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """`float32(q) * float32(scale of its row)`, rounded to `dtype`.

    Args:
        planes: `[planes_size(numel of shape, bits)]` uint8.
        scales: `[rows]` fp16; a shape that is not of a matrix is one row.
        bits: 5 or 6.
        shape: shape of the result.
        dtype: float32 or bfloat16.

    Returns:
        `shape`, `dtype`.

    Raises:
        ValueError: wrong dtype, bits or size.
    """
    _check_planes(planes, bits, shape)
    rows = reference.rows_and_cols(shape)[0]
    require_like(OP, "scales", scales, planes, "planes", shape=(rows,), dtype=torch.float16)
    require_dtype(OP, "dtype", dtype, (torch.float32, torch.bfloat16))
    weights: torch.Tensor = operators.unpack_dequantize(planes, scales, bits, shape, dtype)
    return weights


def quantize_pack(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize each row to its largest magnitude, and pack.

    With c = 2^(bits-1) - 1: `scale = fp16(max(max|row| / c, 1e-12))`, for a matrix at least 2^-14;
    `q = round_half_even(weight / scale)` clamped to [-c-1, c]. Where a scale is 0 (only outside of matrices, for
    magnitudes below 2^-25 c), 0 / 0 counts as 0 and the rest as ±infinity; either is 0 again when dequantized.

    Args:
        weights: `[rows, cols]`, float32, finite; another shape is taken as one row.
        bits: 5 or 6.

    Returns:
        planes: `[planes_size(weights.numel(), bits)]` uint8.
        scales: `[rows]` fp16.

    Raises:
        ValueError: wrong dtype or bits, a weight that is not finite, or a row with a weight beyond 65519 c, whose scale
            is no fp16 (not found out while a CUDA graph is recorded).
    """
    _check_bits(bits)
    require_like(OP, "weights", weights, weights, "weights", dtype=torch.float32)
    planes, scales = operators.quantize_pack(weights.detach(), bits)
    return planes, scales


def _check_bits(bits: int) -> None:
    if bits not in WIDTHS:
        refuse(OP, f"bits is {bits}", "5 or 6")


def _check_planes(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> None:
    _check_bits(bits)
    size = planes_size(math.prod(shape), bits)
    if planes.shape != (size,):
        refuse(OP, f"planes is {tuple(planes.shape)}", f"{(size,)} for {tuple(shape)} of int{bits}")
    require_like(OP, "planes", planes, planes, "planes", dtype=torch.uint8)
