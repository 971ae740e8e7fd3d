"""What a compressed state dict is made of: one `Stored` per tensor, small in memory, exact in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from golf_fast.ops.bitpack import pack, unpack, unpack_dequantize

PACKED_BITS = (5, 6)
"""Widths that `golf_fast.ops.bitpack` packs; every other width keeps a byte per value in memory."""
LEFT_SUFFIX, RIGHT_SUFFIX = ":left", ":right"
"""Names of the factors of a low-rank correction: `name:left` `[r, rows]` and `name:right` `[r, cols]`, both quantized;
the product `left^T right` is added to the quantized matrix `name`."""


@dataclass(frozen=True)
class Raw:
    """A tensor as it is: float16, float32, bool or an integer type, on the CPU."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


@dataclass(frozen=True)
class Packed:
    """Quantized integers in bit planes, and a scale for each row."""

    planes: torch.Tensor
    """uint8, 1-D, as `golf_fast.ops.bitpack.pack` makes them."""
    scales: torch.Tensor
    """float16 [rows]; one element where the tensor is not 2-D."""
    bits: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Int8:
    """Quantized integers, a byte each, and a scale for each row."""

    values: torch.Tensor
    """int8, of the tensor's shape."""
    scales: torch.Tensor
    """float16 [rows] of a 2-D tensor, else float32 [1]."""
    bits: int = 8

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)


Stored = Raw | Packed | Int8


def as_rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, cols) over which a tensor of this shape is quantized: its own if it is 2-D, else one row."""
    if len(shape) == 2:
        return shape[0], shape[1]
    count = 1
    for side in shape:
        count *= side
    return 1, count


def store_integers(values: torch.Tensor, scales: torch.Tensor, bits: int) -> Packed | Int8:
    """Hold quantized integers in the smallest form that memory has for their width.

    Args:
        values: int8, any shape, within [-2^(bits-1), 2^(bits-1) - 1].
        scales: [rows] of `as_rows(values.shape)`; float16, or float32 for an 8-bit tensor that is not 2-D.
        bits: 2 to 8.
    """
    if bits in PACKED_BITS:
        return Packed(pack(values, bits), scales, bits, tuple(values.shape))
    return Int8(values, scales, bits)


def integers(stored: Packed | Int8) -> torch.Tensor:
    """The quantized integers, int8, of the tensor's shape."""
    if isinstance(stored, Int8):
        return stored.values
    return unpack(stored.planes, stored.bits, stored.shape)


def restore(stored: Stored, dtype: torch.dtype, device: torch.device | str = "cpu") -> torch.Tensor:
    """The tensor that a `Stored` stands for, on `device`: integers as they are, everything else in `dtype`.

    Quantized values are `float32(integer) * float32(scale)`, rounded once to `dtype` (seed.md section 5). They travel
    to the device as they are stored, bit-packed ones packed, and become numbers there.
    """
    if isinstance(stored, Raw):
        tensor = stored.tensor.to(device)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor
    scales = stored.scales.to(device)
    if isinstance(stored, Packed):
        direct = dtype if dtype in (torch.float32, torch.bfloat16) else torch.float32
        return unpack_dequantize(stored.planes.to(device), scales, stored.bits, stored.shape, direct).to(dtype)
    values = stored.values.to(device).reshape(as_rows(stored.shape)).float() * scales.float()[:, None]
    return values.reshape(stored.shape).to(dtype)


def dequantize(
    tensors: Mapping[str, Stored], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Turn compressed tensors back into a state dict, low-rank corrections added.

    Args:
        tensors: as `quantize` or `read_artifact` give them.
        dtype: of every floating-point tensor of the result; integers keep theirs.
        device: where the result is; packed integers are unpacked there.
    """
    restored = {
        name: restore(stored, dtype, device)
        for name, stored in tensors.items()
        if not name.endswith((LEFT_SUFFIX, RIGHT_SUFFIX))
    }
    for name, stored in tensors.items():
        if name.endswith(LEFT_SUFFIX):
            name = name.removesuffix(LEFT_SUFFIX)
            # In float64, so that the order in which a library adds the few products up does not show.
            left = restore(stored, torch.float64, device)
            right = restore(tensors[name + RIGHT_SUFFIX], torch.float64, device)
            restored[name] = (restore(tensors[name], torch.float64, device) + left.T @ right).to(dtype)
    return restored
