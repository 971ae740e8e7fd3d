"""Packing int5 and int6 values in plain PyTorch: the definition of the op, and its path without the extension.

A value q of b bits is stored as u = q + 2^(b-1). The low four bits of all values make up the nibble plane, the other
h = b - 4 bits the high plane, which follows it. Values go in blocks of 128; in a plane of w bits a value, value i of a
block is in byte i mod 16w of the block's 16w bytes, at bit w * floor(i / 16w). The last block is filled up with q = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

BLOCK = 128
"""Number of values of a block, whose planes take 64 + 16 (b - 4) bytes."""
SMALLEST_SCALE = 2.0**-14
"""Smallest scale of a row of a matrix: the smallest normal fp16."""


def planes_size(n: int, bits: int) -> int:
    """Number of bytes of the planes of n values."""
    return (n + BLOCK - 1) // BLOCK * (16 * bits)


def rows_and_cols(shape: Sequence[int]) -> tuple[int, int]:
    """A tensor as rows with a scale each: a matrix is its rows, anything else is one row."""
    return (int(shape[0]), int(shape[1])) if len(shape) == 2 else (1, math.prod(shape))


def out_of_range(values: torch.Tensor, bits: int) -> ValueError:
    """The error to raise if some of `values` do not fit."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    wrong = values[(values < low) | (values > high)]
    return ValueError(f"values: {int(wrong[0])} is out of range; int{bits} holds {low} to {high}")


def scale_overflow(weights: torch.Tensor, scales: torch.Tensor, bits: int) -> ValueError:
    """The error to raise if a scale is not a finite fp16."""
    row = int(torch.isfinite(scales).logical_not().nonzero()[0])
    rows, cols = rows_and_cols(weights.shape)
    largest = float(weights.reshape(rows, cols)[row].abs().amax())
    limit = 65519 * (2 ** (bits - 1) - 1)
    return ValueError(f"weights: row {row} reaches {largest:g}; the fp16 scale of int{bits} allows {limit:g}")


def _plane(fields: torch.Tensor, width: int) -> torch.Tensor:
    """`[blocks, 128]` numbers of `width` bits (uint8) to the bytes of their plane."""
    slots = 8 // width
    shifts = (width * torch.arange(slots, device=fields.device, dtype=torch.uint8)).view(slots, 1)
    return (fields.view(-1, slots, BLOCK // slots) << shifts).sum(1, dtype=torch.uint8).flatten()


def _fields(plane: torch.Tensor, width: int) -> torch.Tensor:
    """The bytes of a plane to its flattened numbers of `width` bits (uint8)."""
    slots = 8 // width
    shifts = (width * torch.arange(slots, device=plane.device, dtype=torch.uint8)).view(slots, 1)
    fields: torch.Tensor = (plane.view(-1, 1, BLOCK // slots) >> shifts) & (2**width - 1)
    return fields.flatten()


def pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    offset = 2 ** (bits - 1)
    flat = values.flatten()
    if flat.numel() and not (int(flat.min()) >= -offset and int(flat.max()) < offset):
        raise out_of_range(flat, bits)
    padded = planes_size(flat.numel(), bits) // (16 * bits) * BLOCK
    unsigned = torch.full((padded,), offset, dtype=torch.int16, device=values.device)
    unsigned[: flat.numel()] += flat
    fields = unsigned.to(torch.uint8)
    return torch.cat([_plane(fields & 15, 4), _plane(fields >> 4, bits - 4)])


def unpack(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    nibble_bytes = planes.numel() // bits * 4
    unsigned = _fields(planes[:nibble_bytes], 4) | (_fields(planes[nibble_bytes:], bits - 4) << 4)
    values: torch.Tensor = unsigned[: math.prod(shape)].to(torch.int8) - 2 ** (bits - 1)
    return values.reshape(tuple(shape))


def unpack_dequantize(
    planes: torch.Tensor, scales: torch.Tensor, bits: int, shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    values = unpack(planes, bits, rows_and_cols(shape)).float()
    weights: torch.Tensor = values * scales.float().unsqueeze(1)
    return weights.to(dtype).reshape(tuple(shape))


def quantize(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 values in the shape of `weights`, and fp16 scales, one a row of a matrix (one in all for another shape).

    Errors as in `golf_fast.ops.bitpack.quantize_pack`.
    """
    offset = 2 ** (bits - 1)
    rows = weights.reshape(rows_and_cols(weights.shape))
    absmax = rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(rows.shape[0])
    # A tensor as divisor: on a GPU PyTorch turns a division by a number into a product with its reciprocal.
    scales = (absmax / torch.full_like(absmax, offset - 1)).clamp_min(1e-12).half()
    if weights.dim() == 2:
        scales = scales.clamp_min(SMALLEST_SCALE)
    if not bool(torch.isfinite(scales).all()):
        raise scale_overflow(weights, scales, bits)
    ratio = torch.nan_to_num(rows / scales.float().unsqueeze(1), nan=0.0, posinf=math.inf, neginf=-math.inf)
    return ratio.round().clamp(-offset, offset - 1).to(torch.int8).reshape(weights.shape), scales


def quantize_pack(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    values, scales = quantize(weights, bits)
    return pack(values, bits), scales
