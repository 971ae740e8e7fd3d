"""The header of an artifact: canonical JSON that is checked completely before any of it is used (docs/artifact.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from golf_fast import json_files
from golf_fast.compress.artifact.codecs import Form, Malformed
from golf_fast.compress.artifact.parts import RAW_DTYPES, TensorSpec
from golf_fast.compress.stored import FLOAT16_SCALED_BITS, LEFT_SUFFIX, RIGHT_SUFFIX, as_rows
from golf_fast.errors import InputError

MAX_RAW_BYTES = 1 << 28
"""Greatest number of bytes of all decoded parts of an artifact together: 256 MiB. The challenge's limit is 16 MB, which
at one bit per weight are 128 M weights of a byte each. No decoder allocates more, whatever a file says."""
MAX_NAME = 256
MAX_SIDES = 8
KINDS = ("raw", *(f"int{bits}" for bits in range(2, 9)))


@dataclass(frozen=True)
class Blob:
    """The same part of one or more tensors, coded together."""

    codec: str
    part: str
    tensors: tuple[int, ...]
    """Indices in the header's list of tensors, in rising order."""
    size: int
    """Size in the file, in bytes. Blobs are stored one after the other in the header's order, so none can overlap."""


@dataclass(frozen=True)
class Header:
    """The content of a header."""

    tensors: tuple[TensorSpec, ...]
    """The tensors, ordered by name."""
    blobs: tuple[Blob, ...]
    model_config: dict[str, Any]
    compress: dict[str, Any]
    """Notes for people on how the artifact was made; decoding does not depend on them."""

    def form(self, blob: Blob) -> Form:
        """The form of a blob: a matrix if it holds one tensor with one byte per element, else a row of bytes."""
        return form_of([self.tensors[position] for position in blob.tensors], blob.part)


def form_of(tensors: Sequence[TensorSpec], part: str) -> Form:
    """The form of the joined bytes of the same part of one or more tensors."""
    size = sum(tensor.parts()[part] for tensor in tensors)
    if len(tensors) == 1 and size == tensors[0].elements:
        rows, cols = as_rows(tensors[0].shape)
        return Form(rows, cols, tensors[0].bits if part == "values" else 8)
    return Form(1, size, 8)


def dump(header: Header) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII.

    Raises:
        TypeError, ValueError: the model's configuration is not plain JSON.
    """
    tensors = [{"name": t.name, "kind": t.kind, "shape": t.shape, "dtype": t.dtype} for t in header.tensors]
    blobs = [{"codec": b.codec, "part": b.part, "tensors": b.tensors, "size": b.size} for b in header.blobs]
    return _canonical({"tensors": tensors, "blobs": blobs, "model": header.model_config, "compress": header.compress})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse(text: bytes, codecs: frozenset[str]) -> Header:
    """Parse and check what `dump` wrote.

    Raises:
        Malformed: the text is not canonical, or contradicts the format, its limits or itself.
    """
    try:
        content = json_files.parse(text, "its header")
    except InputError as error:
        raise Malformed(str(error)) from error
    if _canonical(content) != text:  # rules out two spellings of one header
        raise Malformed("its header is not canonical JSON")
    _keys(content, "header", {"tensors", "blobs", "model", "compress"})
    for name in ("model", "compress"):
        if not isinstance(content[name], dict):
            raise Malformed(f"its {name} is {content[name]!r}; it must be an object")
    tensors = tuple(_tensor(item) for item in _list(content["tensors"], "tensors"))
    for before, after in pairwise(tensors):
        if before.name >= after.name:
            raise Malformed(f"tensor {after.name!r} comes after {before.name!r}; names must be unique and sorted")
    _check_corrections({tensor.name: tensor for tensor in tensors})
    total = sum(sum(tensor.parts().values()) for tensor in tensors)
    if total > MAX_RAW_BYTES:
        raise Malformed(f"its tensors declare {total} bytes; at most {MAX_RAW_BYTES} are read")
    blobs = tuple(_blob(item, tensors, codecs) for item in _list(content["blobs"], "blobs"))
    _check_coverage(tensors, blobs)
    return Header(tensors, blobs, content["model"], content["compress"])


def _tensor(item: Any) -> TensorSpec:
    _keys(item, "tensor", {"name", "kind", "shape", "dtype"})
    name, kind, dtype = item["name"], item["kind"], item["dtype"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise Malformed(f"a tensor's name is {name!r:.80}; it must have 1 to {MAX_NAME} characters")
    if kind not in KINDS:
        raise Malformed(f"{name}: its kind is {kind!r:.80}; it must be one of {', '.join(KINDS)}")
    shape = tuple(_count(side, f"{name}: a side") for side in _list(item["shape"], f"{name}: shape"))
    bounding = 1
    for side in shape:
        bounding *= max(side, 1)
    if len(shape) > MAX_SIDES or bounding > MAX_RAW_BYTES:
        raise Malformed(f"{name}: its shape has {len(shape)} sides and {bounding} elements; too many")
    spec = TensorSpec(name, kind, shape, dtype)
    if kind == "raw":
        allowed: tuple[str, ...] = tuple(RAW_DTYPES)
    else:
        allowed = ("float16",) if spec.bits in FLOAT16_SCALED_BITS else ("float16", "float32")
        if spec.elements == 0:
            raise Malformed(f"{name}: it is quantized and has no elements")
    if dtype not in allowed:
        raise Malformed(f"{name}: its dtype is {dtype!r:.80}; {kind} must have {' or '.join(allowed)}")
    return spec


def _check_corrections(tensors: dict[str, TensorSpec]) -> None:
    """Check that the factors of low-rank corrections come in pairs that match each other and a quantized matrix."""
    for name, factor in tensors.items():
        base, mark, _ = name.rpartition(":")
        if not mark:
            continue
        pair = [tensors.get(base + suffix) for suffix in (LEFT_SUFFIX, RIGHT_SUFFIX)]
        matrix = tensors.get(base)
        if ":" in base or factor not in pair or matrix is None or matrix.kind == "raw" or len(matrix.shape) != 2:
            raise Malformed(f"{name}: a name with a colon must be that of a factor of a quantized matrix")
        shapes = [spec.shape if spec is not None and spec.kind != "raw" else () for spec in pair]
        rank = shapes[0][0] if shapes[0] else 0
        pieces, width = shapes[1] if len(shapes[1]) == 2 else (0, 1)  # each row of the right factor in pieces
        cols = matrix.shape[1]
        if shapes[0] != (rank, matrix.shape[0]) or cols % width or pieces * width != rank * cols:
            raise Malformed(f"{name}: the factors of {list(matrix.shape)} have shapes {list(map(list, shapes))}")
        if rank > min(matrix.shape):
            raise Malformed(
                f"{name}: has rank {rank}; a matrix of {list(matrix.shape)} has at most {min(matrix.shape)}"
            )


def _blob(item: Any, tensors: tuple[TensorSpec, ...], codecs: frozenset[str]) -> Blob:
    _keys(item, "blob", {"codec", "part", "tensors", "size"})
    codec, part = item["codec"], item["part"]
    if not isinstance(codec, str) or codec not in codecs:
        raise Malformed(f"a blob's codec is {codec!r:.80}; known are {', '.join(sorted(codecs))}")
    if not isinstance(part, str):
        raise Malformed(f"a blob's part is {part!r:.80}; it must be a name")
    positions = tuple(_count(position, "a blob's tensor") for position in _list(item["tensors"], "a blob's tensors"))
    if not positions or any(a >= b for a, b in pairwise(positions)):
        raise Malformed("a blob's tensors do not rise")
    if positions[-1] >= len(tensors):
        raise Malformed(f"a blob names tensor {positions[-1]} of {len(tensors)}")
    return Blob(codec, part, positions, _count(item["size"], "a blob's size"))


def _check_coverage(tensors: tuple[TensorSpec, ...], blobs: tuple[Blob, ...]) -> None:
    """Check that every part of every tensor is in exactly one blob."""
    missing = {(position, part) for position, tensor in enumerate(tensors) for part in tensor.parts()}
    for blob in blobs:
        for position in blob.tensors:
            if (position, blob.part) not in missing:
                raise Malformed(f"part {blob.part!r:.80} of {tensors[position].name} is foreign or there twice")
            missing.remove((position, blob.part))
    if missing:
        position, part = min(missing)
        raise Malformed(f"part {part!r} of {tensors[position].name} is in no blob")


def _keys(item: Any, what: str, keys: set[str]) -> None:
    if not isinstance(item, dict) or set(item) != keys:
        raise Malformed(f"a {what} of its header must be an object with {', '.join(sorted(keys))}")


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(f"{what} is {value!r:.80}; it must be a list")
    return value


def _count(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_RAW_BYTES:
        raise Malformed(f"{what} is {value!r:.80}; it must be an integer from 0 to {MAX_RAW_BYTES}")
    return value
