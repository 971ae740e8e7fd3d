"""Splits tensors into the parts that blobs hold, and reassembles them.

A *field* is one array of a `Stored`: `data` of a Raw; `values` (one int8 a weight, never packed: a byte compressor
sees no structure in bit-packed values) and `scales` of a Quantized. A *part* is what a blob holds of a field: the
whole array (`values`), or for floats one byte plane of it (`data.0` the lowest byte of each item, `data.1` the next).
Parts are joined over tensors: a *blob* is the same part of one or more tensors, in the order of the tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from golf_fast.compress.artifact.codecs import Malformed
from golf_fast.compress.stored import Quantized, Raw, Stored, as_rows

RAW_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
}
SPLIT_DTYPES = ("float16", "float32")
"""Dtypes that are written as byte planes, since high bytes of neighbours are similar and low bytes are noise."""
PIECE = 1 << 20
"""Number of elements that are processed at once where processing takes memory."""


@dataclass(frozen=True)
class TensorSpec:
    """The entry of a tensor in the header."""

    name: str
    kind: str
    """Kind of the numbers: raw, or the width of quantized integers, int2 to int8."""
    shape: tuple[int, ...]
    dtype: str
    """Dtype of a raw tensor's data, or of the scales of a quantized one."""

    @property
    def elements(self) -> int:
        rows, cols = as_rows(self.shape)
        return rows * cols

    @property
    def bits(self) -> int:
        """Width of the quantized integers; 0 for a raw tensor."""
        return 0 if self.kind == "raw" else int(self.kind[3:])

    def fields(self) -> dict[str, tuple[str, int]]:
        """NumPy dtype and number of items of each field."""
        if self.kind == "raw":
            return {"data": (self.dtype, self.elements)}
        return {"values": ("int8", self.elements), "scales": (self.dtype, as_rows(self.shape)[0])}

    def parts(self) -> dict[str, int]:
        """Size in bytes of each part that a file must hold of this tensor."""
        sizes: dict[str, int] = {}
        for field, (dtype, items) in self.fields().items():
            width = np.dtype(dtype).itemsize
            if dtype in SPLIT_DTYPES:
                sizes |= {f"{field}.{plane}": items for plane in range(width)}
            else:
                sizes[field] = items * width
        return sizes


def spec_of(name: str, stored: Stored) -> TensorSpec:
    """The header entry of a tensor.

    Raises:
        Malformed: the format does not support its dtype.
    """
    if isinstance(stored, Raw):
        dtype = str(stored.tensor.dtype).removeprefix("torch.")
        if dtype not in RAW_DTYPES:
            raise Malformed(f"{name}: its dtype is {dtype}; a raw tensor must have one of {', '.join(RAW_DTYPES)}")
        return TensorSpec(name, "raw", stored.shape, dtype)
    dtype = str(stored.scales.dtype).removeprefix("torch.")
    return TensorSpec(name, f"int{stored.bits}", stored.shape, dtype)


def part_of(stored: Stored, part: str) -> npt.NDArray[np.uint8]:
    """The bytes of one part of a tensor, `[bytes]` uint8, little-endian in row-major order; a view if possible."""
    field, _, plane = part.partition(".")
    array = _tensors_of(stored)[field].detach().cpu().contiguous().numpy()
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    items = array.reshape(-1).view(np.uint8)
    return items.reshape(-1, array.itemsize)[:, int(plane)] if plane else items


def _tensors_of(stored: Stored) -> dict[str, torch.Tensor]:
    if isinstance(stored, Raw):
        return {"data": stored.tensor}
    return {"values": stored.values, "scales": stored.scales}


def assemble(spec: TensorSpec, parts: dict[str, memoryview]) -> Stored:
    """Assemble a tensor from parts of the sizes in `spec.parts()`; each part is removed from `parts` once it is used.

    Raises:
        Malformed: a value is outside its width, or a float or a weight is not finite.
    """
    arrays = {field: _join(field, np.dtype(dtype), items, parts) for field, (dtype, items) in spec.fields().items()}
    _check(spec, arrays)
    if spec.kind == "raw":
        return Raw(torch.from_numpy(arrays["data"]).reshape(spec.shape))
    values, scales = (torch.from_numpy(arrays[field]) for field in ("values", "scales"))
    return Quantized(values.reshape(spec.shape), scales, spec.bits)


def check(spec: TensorSpec, stored: Stored) -> None:
    """Check that a reader of the file would accept a tensor.

    Raises:
        Malformed: as for `assemble`.
    """
    _check(spec, {field: tensor.detach().cpu().reshape(-1).numpy() for field, tensor in _tensors_of(stored).items()})


def _check(spec: TensorSpec, arrays: dict[str, np.ndarray]) -> None:
    for field, (dtype, _) in spec.fields().items():
        if dtype in SPLIT_DTYPES and not _all_finite(arrays[field]):
            raise Malformed(f"{spec.name}: its {field} are not all finite")
    if spec.kind == "raw":
        if spec.dtype == "bool" and arrays["data"].view(np.uint8).max(initial=0) > 1:
            raise Malformed(f"{spec.name}: a bool is neither 0 nor 1")
        return
    values, limit = arrays["values"], 2 ** (spec.bits - 1)
    smallest, largest = int(values.min()), int(values.max())
    if smallest < -limit or largest >= limit:
        raise Malformed(f"{spec.name}: its values run from {smallest} to {largest}, too wide for {spec.kind}")
    coarsest = max(abs(float(arrays["scales"].min())), abs(float(arrays["scales"].max())))
    if coarsest * max(-smallest, largest) > float(np.finfo(np.float32).max):
        raise Malformed(f"{spec.name}: a scale is {coarsest:g}; its product with {spec.kind} is not finite in float32")


def _all_finite(array: np.ndarray) -> bool:
    """Whether all elements are finite, computed without a mask of the size of the array."""
    return all(np.isfinite(array[start : start + PIECE]).all() for start in range(0, array.size, PIECE))


def _join(field: str, dtype: np.dtype, items: int, parts: dict[str, memoryview]) -> np.ndarray:
    """A field as a new, writable array in native byte order."""
    little = dtype.newbyteorder("<")
    if dtype.name in SPLIT_DTYPES:
        planes = np.empty((items, dtype.itemsize), np.uint8)
        for plane in range(dtype.itemsize):
            planes[:, plane] = np.frombuffer(parts.pop(f"{field}.{plane}"), np.uint8)
        return planes.reshape(-1).view(little).astype(dtype, copy=False)
    return np.frombuffer(parts.pop(field), little).astype(dtype)
