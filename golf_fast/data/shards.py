"""Shards: files of 16-bit tokens in the challenge's format.

256 little-endian int32 (magic, version, token count, zeros), then the tokens as little-endian uint16.
"""

import struct
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from golf_fast.errors import InputError
from golf_fast.files import replacing

MAGIC = 20240520
VERSION = 1
HEADER_BYTES = 1024
SHARD_TOKENS = 100_000_000
"""Tokens in each full shard of a longer stream."""

Tokens = npt.NDArray[np.uint16]


def write_shard(path: Path, tokens: npt.ArrayLike) -> None:
    """Write a shard, whole or not at all.

    Args:
        path: the file; an earlier one is replaced.
        tokens: integers from 0 to 65535, shape [n].

    Raises:
        InputError: it cannot be written.
    """
    values = np.asarray(tokens)
    assert values.ndim == 1, values.shape
    assert values.size == 0 or (values.min() >= 0 and values.max() <= 65535), "a token does not fit into 16 bits"
    header = struct.pack("<3i", MAGIC, VERSION, values.size).ljust(HEADER_BYTES, b"\0")
    with replacing(path) as file:
        file.write(header)
        file.write(values.astype("<u2", copy=False).tobytes())


def shard_tokens(path: Path) -> int:
    """The number of tokens in a shard, after checking magic, version and the exact size.

    Raises:
        InputError: the file is missing, foreign, truncated, too long or without a token.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a token shard is needed") from error
    if len(header) < HEADER_BYTES:
        raise InputError(f"{path}: {size} bytes, shorter than the {HEADER_BYTES}-byte header of a shard; get it again")
    magic, version, count = (int(number) for number in struct.unpack_from("<3i", header))
    if magic != MAGIC or version != VERSION:
        raise InputError(
            f"{path}: not a token shard (magic {magic}, version {version}); expected {MAGIC} and {VERSION}"
        )
    if count <= 0:
        raise InputError(f"{path}: its header says {count} tokens; at least 1 is needed")
    if size != HEADER_BYTES + 2 * count:
        raise InputError(
            f"{path}: {size} bytes, but {count} tokens take {HEADER_BYTES + 2 * count}; "
            f"it is {'truncated' if size < HEADER_BYTES + 2 * count else 'too long'}, get it again"
        )
    return count


def open_shard(path: Path) -> "np.memmap[tuple[int], np.dtype[np.uint16]]":
    """The tokens of a shard, shape [n] uint16, mapped from the file: nothing is read until it is used.

    Raises:
        InputError: as `shard_tokens`.
    """
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(shard_tokens(path),))


def find_shards(folder: Path, part: Literal["train", "val"]) -> list[Path]:
    """The shards `*_train_*.bin` or `*_val_*.bin` of a folder, in name order.

    Raises:
        InputError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of shards; name one with *_{part}_*.bin files")
    shards = sorted(folder.glob(f"*_{part}_*.bin"), key=lambda path: path.name)
    if not shards:
        raise InputError(f"{folder}: none of its {len(list(folder.iterdir()))} files is named *_{part}_*.bin")
    return shards
