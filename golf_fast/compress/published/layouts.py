"""Models that the record scripts of the challenge wrote (`final_model.int8.ptz`), as tensors of an artifact.

Both layouts are a dict that `torch.save` wrote, compressed by zstd or zlib:

- `int8`: `quantized` and `scales` (int8, and a scale for each row), `dtypes` (what they were), `passthrough` (small
  tensors, float16 or float32) and, if needed, `qmeta` and `passthrough_orig_dtypes`.
- `mixed`: `w`, with `NAME.q` and `NAME.scale` of a quantized tensor and `NAME` of another, and `m`, which says for each
  `NAME` how it is held: `{"type": "int5"}`, or a word that begins with `passthrough`.

Integers and scales are taken over unchanged. On loading, the scripts cast their product to the parameter's dtype, bf16
for the embedding tables; here the model does that rounding, as its bf16 computation rounds at use to the same number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from golf_fast.compress.artifact.codecs import Malformed
from golf_fast.compress.artifact.header import MAX_NAME, MAX_RAW_BYTES
from golf_fast.compress.published.torch_file import MAX_BYTES, load
from golf_fast.compress.stored import FLOAT16_SCALED_BITS, Quantized, Raw, Stored, as_rows
from golf_fast.errors import InputError
from golf_fast.files import read_bytes

INT8_FORMAT = "int8_clean_per_row_v1"
PASSED = ("passthrough", "passthrough_ctrl", "passthrough_fp16")
TYPES = {f"int{bits}": bits for bits in range(2, 9)}
FLOATS = (torch.float16, torch.bfloat16, torch.float32)
MAX_SIDES = 8


@dataclass(frozen=True)
class Published:
    """The content of a published file."""

    layout: str
    """Name of the layout: int8 or mixed."""
    compressor: str
    """Name of the compressor: zstd or zlib."""
    size: int
    """Size of the file, in bytes."""
    tensors: dict[str, Stored]
    """The tensors under their public names."""
    bfloat16: tuple[str, ...]
    """Names of quantized tensors that the script rounds to bf16 on loading, as far as the layout says so."""


def read_published(path: Path | str) -> Published:
    """Read a model that a record script wrote; nothing in the file is executed.

    Raises:
        InputError: there is no such file, its layout is unknown, or a tensor contradicts the layout.
    """
    path = Path(path)
    data = read_bytes(path, "give the path of a published model", MAX_BYTES)
    try:
        compressor, content = load(data)
        layout, tensors, bfloat16 = _tensors(_table(content, "what it holds"))
    except Malformed as error:
        raise InputError(f"{path}: {error}") from error
    return Published(layout, compressor, len(data), tensors, bfloat16)


def _tensors(content: dict[str, Any]) -> tuple[str, dict[str, Stored], tuple[str, ...]]:
    if set(content) == {"w", "m"}:
        return "mixed", _mixed(_table(content["w"], "w"), _table(content["m"], "m")), ()
    if "quantized" in content:
        return "int8", *_int8(content)
    raise Malformed(
        f"its layout is unknown: a dict of {', '.join(content):.80}, not of w and m or of quantized and so on"
    )


def _mixed(weights: dict[str, Any], meta: dict[str, Any]) -> dict[str, Stored]:
    _check_tensors(weights)
    tensors: dict[str, Stored] = {}
    for name, how in meta.items():
        if isinstance(how, str) and how in PASSED:
            tensors[name] = _passed(name, _take(weights, name, "w"))
            continue
        kind = how.get("type") if isinstance(how, dict) and set(how) <= {"type", "method"} else None
        if not isinstance(kind, str) or kind not in TYPES:
            raise Malformed(
                f"{name}: m does not say how it is held; it must be {', '.join(PASSED)} or a type like int6"
            )
        values, scales = (_take(weights, f"{name}.{part}", "w") for part in ("q", "scale"))
        tensors[name] = _quantized(name, values, scales, TYPES[kind])
    for name in weights:
        raise Malformed(f"{name}: is in w and m says nothing of it; m must describe every tensor")
    return tensors


def _int8(content: dict[str, Any]) -> tuple[dict[str, Stored], tuple[str, ...]]:
    values, scales, passed, dtypes = (
        _table(content.pop(key, None), key) for key in ("quantized", "scales", "passthrough", "dtypes")
    )
    per_row = _table(content.pop("qmeta", {}), "qmeta")
    originals = _table(content.pop("passthrough_orig_dtypes", {}), "passthrough_orig_dtypes")
    if not _is(content.pop("__quant_format__", INT8_FORMAT), INT8_FORMAT) or content:
        raise Malformed(f"its layout is not {INT8_FORMAT}: another format, or keys of others: {', '.join(content):.80}")
    _check_tensors(values, scales, passed)
    for name, dtype in [*dtypes.items(), *originals.items()]:
        if not isinstance(dtype, str) or dtype not in ("float32", "bfloat16"):
            raise Malformed(f"{name}: its dtype in the script is not one that scripts have: float32 or bfloat16")
    for name, how in per_row.items():
        told = _table(how, f"qmeta of {name}")
        if set(told) != {"scheme", "axis"} or not _is(told["scheme"], "per_row") or not _is(told["axis"], 0):
            raise Malformed(f"{name}: its qmeta is not that of the scripts: scheme per_row, axis 0")
    bfloat16 = tuple(name for name in values if _take(dtypes, name, "dtypes") == "bfloat16")
    tensors = {name: _quantized(name, value, _take(scales, name, "scales"), 8) for name, value in values.items()}
    for name in [*scales, *dtypes, *(name for name in passed if name in tensors)]:
        raise Malformed(f"{name}: must be in quantized, scales and dtypes, or only in passthrough")
    return tensors | {name: _passed(name, tensor) for name, tensor in passed.items()}, bfloat16


def _quantized(name: str, values: torch.Tensor, scales: torch.Tensor, bits: int) -> Stored:
    """The integers and scales as a `Stored`; their product as a raw tensor if the format cannot hold them."""
    limit = 2 ** (bits - 1)
    if values.dtype != torch.int8 or values.numel() == 0:
        raise Malformed(f"{name}: its {values.numel()} integers are {values.dtype}; they must be int8, at least one")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < -limit or highest >= limit:
        raise Malformed(
            f"{name}: its integers run from {lowest} to {highest}; int{bits} ends at {-limit} and {limit - 1}"
        )
    if scales.dtype not in (torch.float16, torch.float32):
        raise Malformed(f"{name}: its scales are {scales.dtype}; they must be float16 or float32")
    if scales.shape not in (torch.Size(), values.shape[:1]):
        raise Malformed(f"{name}: its scales are {_shape(scales)} for integers of {_shape(values)}; one, or one a row")
    smallest, largest = _ends(scales)
    if not 0 <= smallest <= largest <= torch.finfo(torch.float32).max / limit:
        worst = smallest if smallest < 0 or math.isnan(smallest) else largest
        raise Malformed(f"{name}: a scale is {worst:g}; it must be finite, small enough for float32, not negative")
    rows = as_rows(tuple(values.shape))[0]
    if scales.ndim == 1 and scales.numel() != rows:
        if 4 * values.numel() > MAX_RAW_BYTES:
            raise Malformed(f"{name}: its {values.numel()} weights take more than {MAX_RAW_BYTES} bytes in float32")
        return Raw(values.float().mul_(scales.float().reshape(-1, *[1] * (values.ndim - 1))))
    if scales.dtype == torch.float32 and bits in FLOAT16_SCALED_BITS:
        bits = 8
    return Quantized(values, scales.expand(rows).contiguous(), bits)


def _passed(name: str, tensor: torch.Tensor) -> Raw:
    if tensor.dtype not in FLOATS:
        raise Malformed(f"{name}: its dtype is {tensor.dtype}; it must be float16, bfloat16 or float32")
    ends = _ends(tensor) if tensor.numel() else (0.0, 0.0)
    for end in ends:
        if not math.isfinite(end):
            raise Malformed(f"{name}: holds {end:g}; its numbers must be finite")
    return Raw(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)


def _is(value: object, expected: str | int) -> bool:
    """Equality that calls no method of an object from the file."""
    return type(value) is type(expected) and value == expected


def _table(value: object, what: str) -> dict[str, Any]:
    """A copy of a dict, after a check that its keys are names."""
    if not isinstance(value, dict):
        raise Malformed(f"{what} is {type(value).__name__!r:.80}; it must be a dict")
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isascii() or not name.isprintable():
            raise Malformed(f"a key of {what} is not a name: 1 to {MAX_NAME} printable characters")
    return dict(value)


def _check_tensors(*tables: dict[str, Any]) -> None:
    """Check that all values are plain tensors of acceptable total size, before anything is computed from them."""
    total = 0
    for name, tensor in (item for table in tables for item in table.items()):
        if type(tensor) is not torch.Tensor:
            raise Malformed(f"{name}: is {type(tensor).__name__!r:.80}; it must be a tensor")
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        # A tensor with strides of 0 has more elements than memory.
        if not plain or tensor.is_neg() or tensor.is_conj() or not tensor.is_contiguous():
            raise Malformed(f"{name}: is not a plain tensor; it must be contiguous numbers on the CPU")
        if tensor.ndim > MAX_SIDES or not all(0 <= side <= MAX_RAW_BYTES for side in tensor.shape):
            raise Malformed(f"{name}: is {_shape(tensor):.80}; at most {MAX_SIDES} sides are read")
        total += tensor.numel() * tensor.itemsize
    if total > MAX_RAW_BYTES:
        raise Malformed(f"its tensors have {total} bytes; at most {MAX_RAW_BYTES} are read")


def _take(table: dict[str, Any], name: str, what: str) -> Any:
    if name not in table:
        raise Malformed(f"{name}: is not in {what}; it must be, as the rest of the file speaks of it")
    return table.pop(name)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _ends(tensor: torch.Tensor) -> tuple[float, float]:
    """The smallest and the largest element, computed without a copy; both are NaN if any element is."""
    smallest, largest = torch.aminmax(tensor)
    return float(smallest), float(largest)
