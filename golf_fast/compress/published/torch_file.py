"""Reads the plain objects in a file that `torch.save` wrote, without trusting the file."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import zipfile
import zlib

import torch
import zstandard

from golf_fast.compress.artifact.codecs import CODECS, Form, Malformed
from golf_fast.compress.artifact.header import MAX_RAW_BYTES

MAX_BYTES = MAX_RAW_BYTES + (1 << 20)
"""Greatest size in bytes of a file and of its decompressed content: the largest artifact, and 1 MiB for its index."""
MAX_PICKLE_BYTES = 1 << 20
PICKLE_PROTOCOL = 2
MAX_ENTRIES = 10_000

_BEGINNING = b"PK\x03\x04"
_ENTRY = b"PK\x01\x02"
"""Signature of an entry in the directory of a zip archive."""
_KNOWN = ("data.pkl", "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
"""Files of an archive of `torch.save` besides the storages."""
_REFUSALS = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)
"""Exceptions that torch raises on malformed files."""
_CALLED = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2")
"""Functions that the pickle of a dict of tensors calls, besides the types of storages."""


def decompress(data: bytes) -> tuple[str, bytes]:
    """Undo the compression of a published file.

    Returns:
        The name of the compressor, zstd or zlib, and the bytes, at most `MAX_BYTES`.

    Raises:
        Malformed: the data are compressed by neither, are damaged or too large, or have trailing bytes.
    """
    if data.startswith(zstandard.FRAME_HEADER):
        try:
            declared = zstandard.get_frame_parameters(data).content_size
        except zstandard.ZstdError as error:
            raise Malformed(f"a zstd frame cannot be read ({error})") from error
        if declared > MAX_BYTES:
            said = "no size" if declared == zstandard.CONTENTSIZE_UNKNOWN else f"{declared} bytes"
            raise Malformed(f"its zstd frame declares {said}; a published model declares at most {MAX_BYTES} bytes")
        return "zstd", bytes(CODECS["zstd"].decode(data, Form(1, declared, 8)))
    if len(data) > 1 and data[0] == 0x78 and int.from_bytes(data[:2], "big") % 31 == 0:
        return "zlib", _inflate(data)
    raise Malformed(f"begins with {data[:4]!r}; a published model is compressed by zstd or zlib")


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise Malformed(f"its zlib stream cannot be read ({error})") from error
    if len(raw) > MAX_BYTES:
        raise Malformed(f"its zlib stream holds more than {MAX_BYTES} bytes; a published model holds fewer")
    if not stream.eof:
        raise Malformed(f"its zlib stream ends early, after {len(raw)} bytes; it was cut short: copy it again")
    if stream.unused_data:
        raise Malformed(f"{len(stream.unused_data)} bytes lie behind the end of its zlib stream; nothing may")
    return raw


def load(data: bytes) -> tuple[str, object]:
    """Load a compressed file of `torch.save` with plain containers, numbers, strings and tensors, on the CPU.

    Nothing in it is executed, and memory is limited to the file and twice its decompressed size; names, shapes, strides
    and dtypes are still to be checked by the caller. torch reads an archive that is rebuilt from the checked entries,
    since bytes that two readers parse differently could hide another archive.

    Returns:
        The name of the compressor, zstd or zlib, and the object.

    Raises:
        Malformed: the content is anything else.
    """
    compressor, raw = decompress(data)
    entries = _entries(raw)
    del raw
    try:
        content: object = torch.load(_archive(entries), map_location="cpu", weights_only=True)
    except _REFUSALS as error:
        raise Malformed(f"torch.load refuses it ({str(error).strip().splitlines()[:1]})") from error
    return compressor, content


def _entries(raw: bytes) -> dict[str, bytes]:
    """The pickle (`data.pkl`) and the storages (`data/KEY`) of an archive of `torch.save`, after checks.

    All entries must be in one folder, uncompressed and with distinct names, and together no longer than `raw`, which
    excludes overlapping entries.
    """
    if not raw.startswith(_BEGINNING):
        raise Malformed(f"what it decompresses to begins with {raw[:4]!r}: it is not an archive of torch.save")
    if raw.count(_ENTRY) > MAX_ENTRIES:
        raise Malformed(f"its archive has more than {MAX_ENTRIES} entries; a published model has fewer")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            found = archive.infolist()
            if sum(entry.file_size for entry in found) > len(raw):
                raise Malformed("the entries of its archive are longer together than the archive")
            entries: dict[str, bytes] = {}
            for entry in found:
                name = entry.filename.partition("/")[2]
                if name in entries or entry.filename.partition("/")[0] != found[0].filename.partition("/")[0]:
                    raise Malformed("its archive is not of torch.save: one folder with each name once")
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise Malformed(f"{entry.filename!r:.80} in its archive is compressed; torch.save stores it as is")
                if name == "data.pkl" and entry.file_size > MAX_PICKLE_BYTES:
                    raise Malformed(f"its pickle has {entry.file_size} bytes; at most {MAX_PICKLE_BYTES} are read")
                entries[name] = archive.read(entry)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, OverflowError, struct.error) as error:
        raise Malformed(f"what it decompresses to is not an archive of torch.save ({error})") from error
    unknown = [name for name in entries if name not in _KNOWN and not re.fullmatch(r"data/[0-9]{1,9}", name)]
    if unknown or "data.pkl" not in entries:
        lacks = f"holds {unknown[0]!r:.80}" if unknown else "has no data.pkl"
        raise Malformed(f"its archive is not of torch.save: it {lacks}; data.pkl and a file for each storage are due")
    if entries.get("byteorder", b"little") != b"little":
        raise Malformed(f"its byte order is {entries['byteorder'][:20]!r}; a published model is little-endian")
    _check_pickle(entries["data.pkl"])
    return {name: content for name, content in entries.items() if name not in _KNOWN or name == "data.pkl"}


def _archive(entries: dict[str, bytes]) -> io.BytesIO:
    """A new archive of these files, which every reader parses the same way."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in list(entries):
            archive.writestr(f"archive/{name}", entries.pop(name))
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
    file.seek(0)
    return file


def _check_pickle(text: bytes) -> None:
    """Refuse a pickle that calls anything that a dict of tensors does not need, before it is loaded."""
    try:
        for opcode, argument, _ in pickletools.genops(text):
            if opcode.name == "PROTO" and argument != PICKLE_PROTOCOL:
                raise Malformed(f"its pickle has protocol {argument}; torch.save writes protocol {PICKLE_PROTOCOL}")
            if opcode.name != "GLOBAL" or argument in _CALLED:
                continue
            module, _, name = str(argument).partition(" ")
            if module != "torch" or not name.endswith("Storage"):
                raise Malformed(
                    f"its pickle calls {f'{module}.{name}'!r:.80}; tensors need no such thing, and it is not run"
                )
    except (ValueError, OverflowError) as error:
        raise Malformed(f"its pickle cannot be read ({error})") from error
