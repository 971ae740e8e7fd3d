"""Shards: files of 16-bit tokens in the challenge's format.

256 little-endian int32 (magic, version, token count, zeros), then the tokens as little-endian uint16.
"""

import os
import struct
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from golf_fast.errors import InputError
from golf_fast.files import open_regular, reason, replacing

MAGIC = 20240520
VERSION = 1
HEADER_BYTES = 1024
SHARD_TOKENS = 100_000_000
"""Number of tokens in each full shard of a longer stream."""

_NEEDED = "a token shard is needed"

Tokens = npt.NDArray[np.uint16]


def write_shard(path: Path, tokens: npt.ArrayLike) -> None:
    """Write a shard atomically.

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


class Shard:
    """The tokens of a shard, read on demand.

    The file is held open and read, not memory-mapped: if it is replaced meanwhile, readers still see the old content,
    and if it is truncated, that is an error that names the file, where a mapping would end the process with a signal.

    Attributes:
        path: the file.
        tokens: number of tokens.

    Raises:
        InputError: the file is missing, not a regular file, of another format, truncated, too long, or has no token.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_regular(path, _NEEDED)
        try:
            self.tokens = _checked_tokens(path, self._read(0, HEADER_BYTES), os.fstat(self._file.fileno()).st_size)
        except BaseException:
            self._file.close()
            raise

    def read(self, start: int, count: int) -> Tokens:
        """Tokens `start` to `start + count`, uint16 [count], read-only; fewer at the end of the shard.

        Raises:
            InputError: the file has become shorter since it was opened, or reading it fails.
        """
        count = max(0, min(count, self.tokens - start))
        content = self._read(HEADER_BYTES + 2 * start, 2 * count)
        if len(content) < 2 * count:
            raise InputError(f"{self.path}: it became shorter while it was read; get it again")
        return np.frombuffer(content, dtype="<u2")

    def _read(self, offset: int, size: int) -> bytes:
        pieces = []
        try:
            while size > 0 and (piece := os.pread(self._file.fileno(), size, offset)):
                pieces.append(piece)
                offset, size = offset + len(piece), size - len(piece)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({reason(error)}); {_NEEDED}") from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _checked_tokens(path: Path, header: bytes, size: int) -> int:
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


def shard_tokens(path: Path) -> int:
    """The number of tokens in a shard, after checking magic, version and the exact size.

    Raises:
        InputError: as `Shard`.
    """
    return Shard(path).tokens


def read_shard(path: Path) -> Tokens:
    """All tokens of a shard, uint16 [n], read-only.

    Raises:
        InputError: as `Shard`.
    """
    shard = Shard(path)
    return shard.read(0, shard.tokens)


def find_shards(folder: Path, part: Literal["train", "val"]) -> list[Path]:
    """The shards `*_train_*.bin` or `*_val_*.bin` of a folder in name order, without side-cars and hidden files.

    Raises:
        InputError: the folder does not exist, may not be read, or has no such shard.
    """
    shards = [path for path in visible(folder, f"*_{part}_*.bin") if not path.match(f"*_{part}_bytes_*.bin")]
    if not shards:
        raise InputError(f"{folder}: none of its {len(visible(folder, '*'))} files is named *_{part}_*.bin")
    return shards


def side_car(shard: Path) -> Path:
    """The path of a validation shard's side-car, which has the number of bytes of text that each token stands for.

    For `x_val_000000.bin` it is `x_val_bytes_000000.bin`, in the format of a shard, with a number of bytes in place of
    each token (0 for BOS).
    """
    return shard.with_name("_val_bytes_".join(shard.name.rsplit("_val_", 1)))


def side_cars(shards: list[Path]) -> list[Path]:
    """The side-car of each shard; an empty list if no shard has one.

    Raises:
        InputError: only some of the shards have a side-car, or one has another length than its shard.
    """
    beside = [side_car(path) for path in shards]
    there = [path != shard and path.exists() for path, shard in zip(beside, shards, strict=True)]
    if not any(there):
        return []
    for path, shard, found in zip(beside, shards, there, strict=True):
        if not found:
            raise InputError(
                f"{path}: is missing, but other shards of its folder have the bytes of their tokens beside"
            )
        if (bytes_of := shard_tokens(path)) != (tokens := shard_tokens(shard)):
            raise InputError(
                f"{path}: {bytes_of} numbers of bytes, but {shard.name} has {tokens} tokens; get both again"
            )
    return beside


def visible(folder: Path, pattern: str) -> list[Path]:
    """The entries of a folder that match a pattern and are not hidden, in name order.

    Raises:
        InputError: the folder does not exist or may not be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of shards; name one with *_train_*.bin and *_val_*.bin files")
    try:
        entries = [path for path in folder.iterdir() if path.match(pattern) and not path.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({reason(error)}); a folder of shards is needed") from error
    return sorted(entries, key=lambda path: path.name)
