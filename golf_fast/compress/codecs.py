"""Byte compressors of the artifact, each a pair of functions: bytes to a blob, and back under an exact size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import zstandard

_TRY_BOTH_BELOW = 1 << 16


class Malformed(Exception):
    """What a file holds breaks the format; the message says what, and the caller knows the file's name."""


@dataclass(frozen=True)
class Codec:
    """How one blob is coded."""

    encode: Callable[[bytes, int], bytes]
    """(raw bytes, level) -> blob. Deterministic for one version of the library behind it."""
    decode: Callable[[bytes, int], bytes]
    """(blob, raw size) -> exactly that many raw bytes, or Malformed. Allocates no more than the raw size."""


def _zstd_encode(raw: bytes, level: int) -> bytes:
    """One frame at the level, short matches left out where they only cost time and bytes.

    Among quantized weights matches of 3 to 6 bytes are chance, and cost more than the literals they replace (4 % at
    int6, level 22). Text of a few KiB is the other way round, so small input is tried both ways.
    """
    ways = [zstandard.ZstdCompressionParameters.from_level(level, source_size=len(raw), min_match=7)]
    if len(raw) < _TRY_BOTH_BELOW:
        ways.append(zstandard.ZstdCompressionParameters.from_level(level, source_size=len(raw)))
    return min((zstandard.ZstdCompressor(compression_params=way).compress(raw) for way in ways), key=len)


def _zstd_decode(blob: bytes, raw_size: int) -> bytes:
    try:
        # The library allocates what the frame declares, whatever limit it is given: so look first.
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


def _raw_decode(blob: bytes, raw_size: int) -> bytes:
    if len(blob) != raw_size:
        raise Malformed(f"a raw blob holds {len(blob)} bytes where the header says {raw_size}")
    return blob


CODECS: dict[str, Codec] = {
    "raw": Codec(lambda raw, level: raw, _raw_decode),
    "zstd": Codec(_zstd_encode, _zstd_decode),
}
"""By the name that the header gives them."""
