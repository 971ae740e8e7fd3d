"""Which bytes of which tensor go into which blob, and how a tensor is put together again from its parts.

A *field* is one array of a `Stored`: `data` of a Raw; `values` (one int8 a weight, never packed: a byte compressor
sees no structure in bit-packed values) and `scales` of a Quantized. A *part* is what a blob holds of a field: the
whole array (`values`), or for floats one byte plane of it (`data.0` the lowest byte of each item, `data.1` the next).
Parts are joined over tensors: a *blob* is the same part of one or more tensors, in the order of the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
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
"""Written as byte planes: the high bytes of neighbours resemble each other, the low ones are noise."""


@dataclass(frozen=True)
class TensorSpec:
    """What the header says about one tensor."""

    name: str
    kind: str
    """raw, or the width of quantized integers: int2 to int8."""
    shape: tuple[int, ...]
    dtype: str
    """Of a raw tensor's data, else of the scales."""

    @property
    def elements(self) -> int:
        rows, cols = as_rows(self.shape)
        return rows * cols

    @property
    def bits(self) -> int:
        """Width of the quantized integers; 0 of a raw tensor."""
        return 0 if self.kind == "raw" else int(self.kind[3:])

    def fields(self) -> dict[str, tuple[str, int]]:
        """field -> (NumPy dtype, items)."""
        if self.kind == "raw":
            return {"data": (self.dtype, self.elements)}
        return {"values": ("int8", self.elements), "scales": (self.dtype, as_rows(self.shape)[0])}

    def parts(self) -> dict[str, int]:
        """Every part that a file must hold of this tensor -> its bytes."""
        sizes: dict[str, int] = {}
        for field, (dtype, items) in self.fields().items():
            width = np.dtype(dtype).itemsize
            if dtype in SPLIT_DTYPES:
                sizes |= {f"{field}.{plane}": items for plane in range(width)}
            else:
                sizes[field] = items * width
        return sizes


def spec_of(name: str, stored: Stored) -> TensorSpec:
    """The header's words for a tensor.

    Raises:
        Malformed: its dtype has no place in the format.
    """
    if isinstance(stored, Raw):
        dtype = str(stored.tensor.dtype).removeprefix("torch.")
        if dtype not in RAW_DTYPES:
            raise Malformed(f"{name}: its dtype is {dtype}; a raw tensor must have one of {', '.join(RAW_DTYPES)}")
        return TensorSpec(name, "raw", stored.shape, dtype)
    dtype = str(stored.scales.dtype).removeprefix("torch.")
    return TensorSpec(name, f"int{stored.bits}", stored.shape, dtype)


def parts_of(stored: Stored) -> dict[str, bytes]:
    """The bytes of every part of a tensor, little-endian, in row-major order."""
    parts: dict[str, bytes] = {}
    for field, tensor in _tensors_of(stored).items():
        array = tensor.detach().cpu().contiguous().numpy()
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype.name in SPLIT_DTYPES:
            planes = array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize)
            parts |= {f"{field}.{plane}": planes[:, plane].tobytes() for plane in range(array.itemsize)}
        else:
            parts[field] = array.tobytes()
    return parts


def _tensors_of(stored: Stored) -> dict[str, torch.Tensor]:
    if isinstance(stored, Raw):
        return {"data": stored.tensor}
    return {"values": stored.values, "scales": stored.scales}


def assemble(spec: TensorSpec, parts: Mapping[str, bytes]) -> Stored:
    """Put a tensor together from parts of the sizes that `spec.parts()` names.

    Raises:
        Malformed: a value is outside its width, or a float is not finite.
    """
    arrays = {}
    for field, (dtype, items) in spec.fields().items():
        arrays[field] = _join(field, np.dtype(dtype), items, parts)
        if dtype in SPLIT_DTYPES and not np.isfinite(arrays[field]).all():
            raise Malformed(f"{spec.name}: its {field} are not all finite")
    if spec.kind == "raw":
        if spec.dtype == "bool" and arrays["data"].view(np.uint8).max(initial=0) > 1:
            raise Malformed(f"{spec.name}: a bool is neither 0 nor 1")
        return Raw(torch.from_numpy(arrays["data"]).reshape(spec.shape))
    values, limit = arrays["values"], 2 ** (spec.bits - 1)
    if values.min() < -limit or values.max() >= limit:
        raise Malformed(f"{spec.name}: its values run from {values.min()} to {values.max()}, too wide for {spec.kind}")
    return Quantized(torch.from_numpy(values).reshape(spec.shape), torch.from_numpy(arrays["scales"]), spec.bits)


def _join(field: str, dtype: np.dtype, items: int, parts: Mapping[str, bytes]) -> np.ndarray:
    little = dtype.newbyteorder("<")
    if dtype.name in SPLIT_DTYPES:
        planes = np.empty((items, dtype.itemsize), np.uint8)
        for plane in range(dtype.itemsize):
            planes[:, plane] = np.frombuffer(parts[f"{field}.{plane}"], np.uint8)
        array = planes.reshape(-1).view(little)
    else:
        array = np.frombuffer(parts[field], little)
    return array.astype(dtype)  # native byte order, and memory of its own, which torch may write to
