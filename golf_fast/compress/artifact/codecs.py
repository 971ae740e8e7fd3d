"""Codecs of the artifact's blobs: each is a pair of functions, from bytes to a blob and back to an exact size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import zstandard

from golf_fast.compress.artifact import rans
from golf_fast.errors import InputError

try:
    import brotli

    if not hasattr(brotli.Decompressor, "can_accept_more_data"):  # older than its limit on output
        brotli = None
except ImportError:
    brotli = None

_TRY_BOTH_BELOW = 1 << 16
_ALWAYS_BELOW = 1 << 13
"""Size in bytes below which every codec is fast enough to be tried."""
_BROTLI_MISSING = "codec brotli: it needs the package brotli of version 1.2 or later, which is not installed"


Bytes = bytes | memoryview


class Malformed(Exception):
    """The content of a file violates the format; the caller adds the name of the file to the message."""


@dataclass(frozen=True)
class Form:
    """The raw bytes of a blob as a matrix of signed integers, one byte each, for codecs that model it."""

    rows: int
    cols: int
    bits: int

    @property
    def size(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class Codec:
    """An encoder and a decoder of blobs."""

    encode: Callable[[Bytes, Form, int], Bytes]
    """Function (raw bytes, form, level of zstd) -> blob, deterministic for one version of the library behind it."""
    decode: Callable[[Bytes, Form], Bytes]
    """Function (blob, form) -> exactly `form.size` bytes, or raises Malformed. It allocates little more than that."""
    by_matrix: bool = False
    """Whether it fits a model to each matrix. Then matrices do not share blobs, and other bytes are tried with zstd
    too."""


def _zstd_encode(raw: Bytes, form: Form, level: int) -> bytes:
    """One zstd frame, without short matches where these cost bytes.

    In quantized weights, matches of 3 to 6 bytes are coincidences and cost more than the literals that they replace
    (4 % at int6, level 22). In a few KiB of text they help, so small input is tried both ways.
    """
    ways = [zstandard.ZstdCompressionParameters.from_level(level, source_size=len(raw), min_match=7)]
    if len(raw) < _TRY_BOTH_BELOW:
        ways.append(zstandard.ZstdCompressionParameters.from_level(level, source_size=len(raw)))
    return min((zstandard.ZstdCompressor(compression_params=way).compress(raw) for way in ways), key=len)


def _zstd_decode(blob: Bytes, form: Form) -> Bytes:
    raw_size = form.size
    try:
        # The library allocates what the frame declares, whatever limit it is given, so that is checked first.
        declared = zstandard.get_frame_parameters(blob).content_size
        if declared != raw_size:
            raise Malformed(f"a zstd frame declares {declared} bytes where the header says {raw_size}")
        window = max(raw_size, 1 << 10)
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << (window - 1).bit_length())
        raw = decompressor.decompress(blob, max_output_size=raw_size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"a zstd frame cannot be read ({error})") from error
    if len(raw) != raw_size:
        raise Malformed(f"a zstd frame holds {len(raw)} bytes where the header says {raw_size}")
    return raw


def require_installed(name: str) -> None:
    """Check that the package of the codec `name` is installed, for a program that will encode with it later.

    Raises:
        InputError: it is not.
    """
    if name == "brotli" and brotli is None:
        raise InputError(_BROTLI_MISSING)


def _brotli_encode(raw: Bytes, form: Form, level: int) -> bytes:
    require_installed("brotli")
    blob: bytes = brotli.compress(raw, quality=11, lgwin=24)
    return blob


def _brotli_decode(blob: Bytes, form: Form) -> Bytes:
    if brotli is None:
        raise Malformed(_BROTLI_MISSING)
    decompressor = brotli.Decompressor()
    try:
        # The decoder may exceed the limit by less than it has written, so a decompression bomb cannot expand.
        raw: bytes = decompressor.process(blob, output_buffer_limit=form.size)
    except brotli.error as error:
        raise Malformed(f"a brotli blob cannot be read ({error})") from error
    if len(raw) != form.size or not decompressor.is_finished():
        raise Malformed(f"a brotli blob does not hold the {form.size} bytes that the header says")
    return raw


def _rans_encode(raw: Bytes, form: Form, level: int) -> bytes:
    return rans.encode(np.frombuffer(raw, np.int8).reshape(form.rows, form.cols), form.bits)


def _rans_decode(blob: Bytes, form: Form) -> Bytes:
    try:
        return rans.decode(blob, (form.rows, form.cols)).tobytes()
    except ValueError as error:
        raise Malformed(f"a rans blob cannot be read ({error})") from error


def _raw_decode(blob: Bytes, form: Form) -> Bytes:
    if len(blob) != form.size:
        raise Malformed(f"a raw blob holds {len(blob)} bytes where the header says {form.size}")
    return blob


CODECS: dict[str, Codec] = {
    "raw": Codec(lambda raw, form, level: raw, _raw_decode),
    "zstd": Codec(_zstd_encode, _zstd_decode),
    "brotli": Codec(_brotli_encode, _brotli_decode),
    "rans": Codec(_rans_encode, _rans_decode, by_matrix=True),
}
"""The codecs by their names in headers."""


def smallest(names: tuple[str, ...], raw: Bytes, form: Form, level: int) -> tuple[str, Bytes]:
    """The name of the codec that makes the smallest blob (of equal ones, the first), and that blob."""
    blobs = [(name, CODECS[name].encode(raw, form, level)) for name in names]
    return min(blobs, key=lambda named: len(named[1]))


def smallest_of_all(names: tuple[str, ...], raw: Bytes, form: Form, level: int) -> tuple[str, Bytes]:
    """As `smallest`, but zstd and brotli, which take a hundred times as long, are tried only if the data repeat.

    Brotli, which a reader may not have installed, is tried only if zstd is the smallest so far, and is chosen only if
    it saves 1 % and 64 bytes.
    """
    found = smallest(names, raw, form, level)
    if len(raw) > _ALWAYS_BELOW and not _repeats(raw, len(found[1])):
        return found
    best = min(found, smallest(("zstd",), raw, form, level), key=lambda named: len(named[1]))
    if best is found or brotli is None:
        return best
    other = smallest(("brotli",), raw, form, level)
    return other if len(other[1]) <= 0.99 * len(best[1]) - 64 else best


def _repeats(raw: Bytes, size: int) -> bool:
    """Whether a fast compressor finds enough repetitions that a slow one might beat a blob of `size` bytes."""
    counts = np.bincount(np.frombuffer(raw, np.uint8), minlength=256)
    entropy = float((counts * np.log2(len(raw) / np.maximum(counts, 1))).sum()) / 8
    ways = [
        zstandard.ZstdCompressionParameters.from_level(3, source_size=len(raw), min_match=match) for match in (4, 7)
    ]
    quick = min(len(zstandard.ZstdCompressor(compression_params=way).compress(raw)) for way in ways)
    return quick < size or (quick < 0.99 * entropy and quick < 1.3 * size)
