"""int5 and int6 values packed by bit planes, with an fp16 scale for each row.

The layout is told in `reference.py` (and, for C++ and CUDA, in csrc/bitpack/layout.hpp): n values of b bits take
`planes_size(n, b)` = 16 b * ceil(n / 128) bytes. The arithmetic of quantization is that of the published script.

The functions keep no graph: weights are detached, and no gradient reaches through them. Backends: `native` (C++ with
AVX2 and AVX-512, CUDA) and `reference`, see `golf_fast.ops.backends`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from golf_fast.ops import backends
from golf_fast.ops.bitpack import native, reference
from golf_fast.ops.bitpack.reference import planes_size

__all__ = ["WIDTHS", "pack", "planes_size", "quantize_pack", "unpack", "unpack_dequantize"]

WIDTHS = (5, 6)
"""Widths of the integers, in bits."""

backends.register(
    "bitpack",
    backends.Candidate("native", "golf_fast._C has it for this device", native.obstacle),
    backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere),
)


def _use_native(device: torch.device) -> bool:
    return backends.resolve("bitpack", device).name == "native"


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
    _check_dtype("values", values, torch.int8)
    planes: torch.Tensor = _pack(values, bits)
    return planes


def unpack(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    """The integers that `pack` took.

    Args:
        planes: `[planes_size(numel of shape, bits)]` uint8.
        bits: 5 or 6.
        shape: of the result.

    Returns:
        `shape` int8.

    Raises:
        ValueError: wrong dtype, bits or size.
    """
    _check_planes(planes, bits, shape)
    values: torch.Tensor = _unpack(planes, bits, shape)
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
        shape: of the result.
        dtype: float32 or bfloat16.

    Returns:
        `shape`, `dtype`.

    Raises:
        ValueError: wrong dtype, bits or size.
    """
    _check_planes(planes, bits, shape)
    _check_dtype("scales", scales, torch.float16)
    rows = reference.rows_and_cols(shape)[0]
    if scales.shape != (rows,):
        raise ValueError(f"scales: their shape is {list(scales.shape)}; for {list(shape)} it must be [{rows}]")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"dtype: it is {dtype}; it must be torch.float32 or torch.bfloat16")
    weights: torch.Tensor = _unpack_dequantize(planes, scales, bits, shape, dtype)
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
    _check_dtype("weights", weights, torch.float32)
    planes, scales = _quantize_pack(weights.detach(), bits)
    return planes, scales


def _check_bits(bits: int) -> None:
    if bits not in WIDTHS:
        raise ValueError(f"bits: it is {bits}; it must be 5 or 6")


def _check_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype != dtype:
        raise ValueError(f"{name}: it is {tensor.dtype}; it must be {dtype}")


def _check_planes(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> None:
    _check_bits(bits)
    _check_dtype("planes", planes, torch.uint8)
    size = planes_size(math.prod(shape), bits)
    if planes.shape != (size,):
        raise ValueError(
            f"planes: their shape is {list(planes.shape)}; for {list(shape)} of int{bits} it must be [{size}]"
        )


@torch.library.custom_op("golf_fast::bitpack_pack", mutates_args=())
def _pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    return native.pack(values, bits) if _use_native(values.device) else reference.pack(values, bits)


@_pack.register_fake
def _(values: torch.Tensor, bits: int) -> torch.Tensor:
    return values.new_empty(planes_size(values.numel(), bits), dtype=torch.uint8)


@torch.library.custom_op("golf_fast::bitpack_unpack", mutates_args=())
def _unpack(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    return native.unpack(planes, bits, shape) if _use_native(planes.device) else reference.unpack(planes, bits, shape)


@_unpack.register_fake
def _(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    return planes.new_empty(tuple(shape), dtype=torch.int8)


@torch.library.custom_op("golf_fast::bitpack_unpack_dequantize", mutates_args=())
def _unpack_dequantize(
    planes: torch.Tensor, scales: torch.Tensor, bits: int, shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    run = native.unpack_dequantize if _use_native(planes.device) else reference.unpack_dequantize
    return run(planes, scales, bits, shape, dtype)


@_unpack_dequantize.register_fake
def _(planes: torch.Tensor, scales: torch.Tensor, bits: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return planes.new_empty(tuple(shape), dtype=dtype)


@torch.library.custom_op("golf_fast::bitpack_quantize_pack", mutates_args=())
def _quantize_pack(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        native.quantize_pack(weights, bits) if _use_native(weights.device) else reference.quantize_pack(weights, bits)
    )


@_quantize_pack.register_fake
def _(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    planes = weights.new_empty(planes_size(weights.numel(), bits), dtype=torch.uint8)
    return planes, weights.new_empty(reference.rows_and_cols(weights.shape)[0], dtype=torch.float16)
