"""The rANS entropy coder for matrices of small integers, which models the scale of each row and column.

Interleaved range ANS (Duda, arXiv 1311.2540; Giesen, arXiv 1402.3392) over discretised Gaussians, or mixtures of two,
whose sigma is a factor of the row times a factor of the column. docs/artifact.md ("The rans codec") defines the bytes,
which are the same on every machine. `native` (csrc/rans/) and `numpy` (`rans_numpy`) are byte-identical; the choice
is that of `golf_fast.ops.backends`, under the name `rans`.
"""

from __future__ import annotations

import numpy as np
import torch

from golf_fast.compress.artifact import rans_numpy
from golf_fast.compress.artifact.rans_numpy import MAX_VALUES, Array
from golf_fast.ops import backends, extension

backends.register(
    "rans",
    backends.Candidate("native", "golf_fast._C has it; it runs on the CPU", extension.obstacle),
    backends.Candidate("numpy", "NumPy runs anywhere", backends.anywhere),
)


def _use_native() -> bool:
    return backends.resolve("rans", "cpu").name == "native"


def encode(values: Array | torch.Tensor, bits: int) -> bytes:
    """Code a matrix of integers.

    Args:
        values: int8 [rows, cols] of NumPy or torch, on any device and of any strides, at most 2^28 of them, each
            within [-2^(bits-1), 2^(bits-1) - 1].
        bits: 2 to 8.

    Returns:
        A blob of at most `values.size + 12` bytes, the same for the same values on every machine.

    Raises:
        ValueError: another dtype, number of dimensions or size, or a value out of range.
    """
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    if not 2 <= bits <= 8:
        raise ValueError(f"bits: {bits}; it must be from 2 to 8")
    if array.dtype != np.int8 or array.ndim != 2:
        raise ValueError(f"values: {array.dtype} of shape {list(array.shape)}; they must be int8 of shape [rows, cols]")
    if max(array.shape[0], 1) * max(array.shape[1], 1) > MAX_VALUES:
        raise ValueError(f"values: their shape is {list(array.shape)}; at most {MAX_VALUES} can be coded at once")
    limit = 1 << (bits - 1)
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < -limit or high >= limit:
        raise ValueError(f"values: they run from {low} to {high}; int{bits} holds {-limit} to {limit - 1}")
    array = np.ascontiguousarray(array)
    if _use_native():
        blob: bytes = extension.C.rans_encode(array.ctypes.data, array.shape[0], array.shape[1], bits)
        return blob
    return rans_numpy.encode(array, bits)


def decode(blob: bytes | memoryview, shape: tuple[int, int] | None = None) -> Array:
    """The values of a blob, which may come from a stranger.

    Args:
        blob: as `encode` returns it.
        shape: what the blob must hold; a blob that says otherwise is refused before its values are allocated.

    Returns:
        int8 [rows, cols], writable.

    Raises:
        ValueError: the blob is not one that `encode` could have written.
    """
    rows, cols = _shape_of(blob)
    if shape is not None and (rows, cols) != tuple(shape):
        raise ValueError(f"it holds values of shape {[rows, cols]}; they must have {list(shape)}")
    if not _use_native():
        return rans_numpy.decode(bytes(blob)).copy()
    buffer, values = np.frombuffer(blob, np.uint8), np.empty((rows, cols), np.int8)
    extension.C.rans_decode(buffer.ctypes.data, buffer.size, values.ctypes.data, values.size)
    return values


def _shape_of(blob: bytes | memoryview) -> tuple[int, int]:
    """The shape that a blob declares; the decoders check its whole head again."""
    sides, at = [], 2
    for _ in range(2):
        digits = blob[at : at + 5]
        size = next((place + 1 for place, digit in enumerate(digits) if digit < 128), 0)
        if size == 0:
            raise ValueError("it ends too early, or holds a number that is too large")
        sides.append(sum((digit & 127) << 7 * place for place, digit in enumerate(digits[:size])))
        at += size
    if max(sides[0], 1) * max(sides[1], 1) > MAX_VALUES:
        raise ValueError(f"it declares {sides[0]} times {sides[1]} values; at most {MAX_VALUES} are decoded")
    return sides[0], sides[1]
