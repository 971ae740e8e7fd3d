"""The tensors of a compressed state dict: one `Stored` each, identical in memory and in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from golf_fast.ops import bitpack

LEFT_SUFFIX, RIGHT_SUFFIX = ":left", ":right"
"""Suffixes of the names of the factors of a low-rank correction, both quantized: `name:left` `[r, rows]` and
`name:right` `[r, cols]`, or the latter with rows cut into groups of n neighbours with a scale each, `[r cols / n, n]`.
The product `left^T right` is added to the quantized matrix `name`."""

CORRECTED_AT_ONCE = 1 << 22
"""Number of elements of a matrix whose correction is computed in one product, which takes 16 bytes per element."""


@dataclass(frozen=True)
class Raw:
    """A tensor that is not quantized: float16, float32, bool or an integer dtype, on the CPU."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


@dataclass(frozen=True)
class Quantized:
    """Small integers of one byte each, and a scale for each row, on the CPU.

    Args:
        values: int8, of the tensor's shape, within [-2^(bits-1), 2^(bits-1) - 1].
        scales: [rows] of `as_rows(shape)`; float16, or float32 where the width is none of `FLOAT16_SCALED_BITS`.
        bits: width of the integers, 2 to 8.
    """

    values: torch.Tensor
    scales: torch.Tensor
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)


Stored = Raw | Quantized
FLOAT16_SCALED_BITS = (5, 6)
"""Widths of integers whose scales are always float16."""


def as_rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape (rows, cols) in which a tensor is quantized: its own if it is 2-D, else one row."""
    if len(shape) == 2:
        return shape[0], shape[1]
    count = 1
    for side in shape:
        count *= side
    return 1, count


def restore(stored: Stored, dtype: torch.dtype, device: torch.device | str = "cpu") -> torch.Tensor:
    """The tensor of a `Stored` on `device`: raw integers unchanged, everything else in `dtype`.

    Quantized values are `float32(integer) * float32(scale)`, rounded once to `dtype` (seed.md section 5). They are
    dequantized on the device, and transferred bit-packed if `golf_fast.ops.bitpack` supports their width.
    """
    if isinstance(stored, Raw):
        tensor = stored.tensor.to(device)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor
    if torch.device(device).type != "cpu" and stored.bits in bitpack.WIDTHS:
        return _restore_packed(stored, dtype, device)
    weights = stored.values.to(device).reshape(as_rows(stored.shape)).float()
    weights *= stored.scales.to(device).float()[:, None]
    return weights.reshape(stored.shape).to(dtype)


def _restore_packed(stored: Quantized, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    planes = bitpack.pack(stored.values, stored.bits).to(device)
    direct = dtype if dtype in (torch.float32, torch.bfloat16) else torch.float32
    scales = stored.scales.to(device)
    return bitpack.unpack_dequantize(planes, scales, stored.bits, stored.shape, direct).to(dtype)


def dequantize(
    tensors: Mapping[str, Stored], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Turn compressed tensors back into a state dict, including low-rank corrections.

    Args:
        tensors: compressed tensors, as `quantize` or `read_artifact` return them.
        dtype: dtype of every floating-point tensor of the result; integer tensors keep theirs.
        device: device of the result.
    """
    return dict(dequantized(tensors, dtype, device))


def dequantized(
    tensors: Mapping[str, Stored], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the names and tensors of `dequantize` one at a time, so that they need not all be in memory."""
    for name in own_names(tensors):
        corrected = name + LEFT_SUFFIX in tensors
        yield name, _corrected(tensors, name, dtype, device) if corrected else restore(tensors[name], dtype, device)


def own_names(names: Iterable[str]) -> list[str]:
    """The names that are not factors of low-rank corrections."""
    return [name for name in names if not name.endswith((LEFT_SUFFIX, RIGHT_SUFFIX))]


def _corrected(
    tensors: Mapping[str, Stored], name: str, dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """A quantized matrix plus its low-rank correction, computed in pieces of rows if it is large."""
    stored = tensors[name]
    assert isinstance(stored, Quantized)
    rows, cols = stored.shape
    # In float64, so that the result does not depend on the order in which a library sums the few products.
    left, right = (restore(tensors[name + suffix], torch.float64, device) for suffix in (LEFT_SUFFIX, RIGHT_SUFFIX))
    result = torch.empty(rows, cols, dtype=dtype, device=device)
    right = right.reshape(len(left), cols)
    step = max(1, CORRECTED_AT_ONCE // cols)
    for first in range(0, rows, step):
        piece = slice(first, first + step)
        some = Quantized(stored.values[piece], stored.scales[piece], stored.bits)
        result[piece] = restore(some, torch.float64, device) + left[:, piece].T @ right
    return result
