"""The container of an artifact: one file with a compressed model, written canonically and read without trust.

    magic, version, header sizes | header (JSON, zstd) | blobs | BLAKE2b-128 of everything before it

docs/artifact.md defines the format. Nothing in a file is ever executed, and no allocation is larger than a checked
header may declare.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf_fast.compress.artifact.codecs import CODECS, Bytes, Form, Malformed, smallest, smallest_of_all
from golf_fast.compress.artifact.header import MAX_RAW_BYTES, Blob, Header, dump, form_of, parse
from golf_fast.compress.artifact.parts import TensorSpec, assemble, check, part_of, spec_of
from golf_fast.compress.stored import Stored
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, replacing

MAGIC = b"GOLFFAST"
VERSION = 1
PREAMBLE = struct.Struct("<8sIII")
"""The first bytes of the file: magic, version, size of the compressed header, size of the decompressed header."""
DIGEST_BYTES = 16
MAX_HEADER_BYTES = 1 << 20
OWN_BLOB_FROM = 1 << 15
"""Least size in bytes of a part of a tensor that has a blob of its own, under a codec that models each matrix."""
LEVELS = range(1, 23)
"""The levels of zstd, from the fastest to the smallest."""
MAX_FILE_BYTES = MAX_RAW_BYTES + 2 * MAX_HEADER_BYTES


@dataclass(frozen=True)
class Artifact:
    """A compressed model, as read from a file."""

    tensors: dict[str, Stored]
    model_config: dict[str, Any]
    header: Header
    size: int
    """Size of the file, in bytes."""


def write_artifact(
    path: Path | str,
    tensors: Mapping[str, Stored],
    model_config: dict[str, Any],
    *,
    codec: str = "rans",
    level: int = LEVELS[-1],
    notes: Mapping[str, Any] | None = None,
) -> int:
    """Write a model to one file. Equal input gives equal bytes, whatever the order of `tensors`.

    Args:
        path: where the file is written.
        tensors: the compressed tensors by name, as `quantize` returns them.
        model_config: plain JSON values, which `read_artifact` returns.
        codec: the codec of the quantized integers, a key of `CODECS`.
        level: the level of zstd, from 1 (fastest) to 22 (smallest).
        notes: plain JSON values that tell people how the tensors were made; stored in the header with codec and level.

    Returns:
        The size of the file in bytes.

    Raises:
        InputError: the file cannot be written, codec or level is unknown, `model_config` or `notes` is not JSON, or
            the model exceeds the format's caps.
    """
    path = Path(path)
    try:
        data = encode(tensors, model_config, codec=codec, level=level, notes=notes)
    except Malformed as error:
        raise InputError(f"{path}: not written: {error}") from error
    with replacing(path) as file:
        file.write(data)
    return len(data)


def read_artifact(path: Path | str) -> Artifact:
    """Read what `write_artifact` wrote; the file may come from a stranger.

    Raises:
        InputError: there is no such file, it is not an artifact, or it is damaged.
    """
    path = Path(path)
    data = read_bytes(path, "give the path of an artifact", MAX_FILE_BYTES)
    try:
        return decode(data)
    except Malformed as error:
        raise InputError(f"{path}: {error}") from error


def encode(
    tensors: Mapping[str, Stored],
    model_config: dict[str, Any],
    *,
    codec: str = "rans",
    level: int = LEVELS[-1],
    notes: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of an artifact. The arguments are those of `write_artifact`.

    Raises:
        Malformed: the model cannot be written in this format.
    """
    if codec not in CODECS:
        raise Malformed(f"its codec is {codec!r}; it must be one of {', '.join(CODECS)}")
    if level not in LEVELS:
        raise Malformed(f"its level of zstd is {level}; it must be from {LEVELS[0]} to {LEVELS[-1]}")
    names = sorted(tensors)
    specs = tuple(spec_of(name, tensors[name]) for name in names)
    for spec in specs:
        check(spec, tensors[spec.name])  # nothing is written that a reader would refuse
    blobs: list[Blob] = []
    bodies: list[Bytes] = []
    for part, positions in _groups(specs, codec):
        pieces = [np.ascontiguousarray(part_of(tensors[names[position]], part)).data for position in positions]
        raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        form = form_of([specs[position] for position in positions], part)
        choose = smallest_of_all if CODECS[codec].by_matrix and part == "values" else smallest
        used, body = choose(_tried(codec, part), raw, form, level)
        blobs.append(Blob(used, part, tuple(positions), len(body)))
        bodies.append(body)
    settings = {**(notes or {}), "codec": codec, "level": level}
    try:
        text = dump(Header(specs, tuple(blobs), model_config, settings))
    except (TypeError, ValueError, RecursionError) as error:
        raise Malformed(f"the model's configuration or a note is not plain JSON ({error})") from error
    if len(text) > MAX_HEADER_BYTES:
        raise Malformed(f"its header has {len(text)} bytes; at most {MAX_HEADER_BYTES} are allowed")
    parse(text, frozenset(CODECS))  # likewise
    header = CODECS["zstd"].encode(text, Form(1, len(text), 8), level)
    written = [PREAMBLE.pack(MAGIC, VERSION, len(header), len(text)), header, *bodies]
    return b"".join((*written, _digest(written)))


def _groups(specs: tuple[TensorSpec, ...], codec: str) -> list[tuple[str, list[int]]]:
    """The tensors whose parts share a blob, in the order of the file: those with similar distributions of bytes.

    Under a codec that models each matrix, a large part has a blob of its own.
    """
    groups: dict[tuple[str, str, str, int], list[int]] = defaultdict(list)
    for position, spec in enumerate(specs):
        for part, size in spec.parts().items():
            own = CODECS[codec].by_matrix and (part == "values" or size >= OWN_BLOB_FROM)
            groups[part, spec.kind, spec.dtype, position if own else -1].append(position)
    return [(key[0], positions) for key, positions in sorted(groups.items())]


def _tried(codec: str, part: str) -> tuple[str, ...]:
    """The codecs that are tried on a part; zstd may suit parts that are not quantized better than an entropy coder."""
    if CODECS[codec].by_matrix and part != "values":
        return ("raw", codec, "zstd")
    return ("raw", codec)


def decode(data: bytes) -> Artifact:
    """Decode the bytes of an artifact.

    Raises:
        Malformed: `encode` could not have written these bytes.
    """
    header, start = _read_header(data)
    stop = len(data) - DIGEST_BYTES
    if start + sum(blob.size for blob in header.blobs) != stop:
        raise Malformed(f"its header and blobs do not add up to its {len(data)} bytes")
    whole = memoryview(data)
    parts: list[dict[str, memoryview]] = [{} for _ in header.tensors]
    for blob in header.blobs:
        raw = memoryview(CODECS[blob.codec].decode(whole[start : start + blob.size], header.form(blob)))
        start += blob.size
        taken = 0
        for position in blob.tensors:
            size = header.tensors[position].parts()[blob.part]
            parts[position][blob.part] = raw[taken : taken + size]
            taken += size
        del raw
    tensors = {spec.name: assemble(spec, parts[position]) for position, spec in enumerate(header.tensors)}
    return Artifact(tensors, header.model_config, header, len(data))


def _read_header(data: bytes) -> tuple[Header, int]:
    """The checked header, and the offset of the first blob."""
    if not data.startswith(MAGIC):
        raise Malformed(f"begins with {data[:8]!r}, an artifact with {MAGIC!r}: it is another kind of file")
    if not PREAMBLE.size + DIGEST_BYTES <= len(data) <= MAX_FILE_BYTES:
        raise Malformed(f"has {len(data)} bytes; an artifact has {PREAMBLE.size + DIGEST_BYTES} to {MAX_FILE_BYTES}")
    if _digest([memoryview(data)[:-DIGEST_BYTES]]) != data[-DIGEST_BYTES:]:
        raise Malformed(f"the checksum over its {len(data)} bytes is wrong: it was cut short or changed; copy it again")
    _, version, size, raw_size = PREAMBLE.unpack_from(data)
    if version != VERSION:
        raise Malformed(f"is an artifact of version {version}; this program reads version {VERSION}")
    start = PREAMBLE.size + size
    if start > len(data) - DIGEST_BYTES or raw_size > MAX_HEADER_BYTES:
        raise Malformed(f"its header has {size} bytes, decoded {raw_size}; too many")
    text = bytes(CODECS["zstd"].decode(data[PREAMBLE.size : start], Form(1, raw_size, 8)))
    return parse(text, frozenset(CODECS)), start


def _digest(pieces: Iterable[Bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
