"""Scans one shard in a single pass over its tokens."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golf_fast.data.shards import Shard, Tokens
from golf_fast.data.token_bytes import TokenBytes
from golf_fast.data.tokenizer import BOS_ID

PIECE_TOKENS = 1 << 20
"""Number of tokens that are read at a time, which fit into the cache of a core."""
BLOCK_TOKENS = 2048
"""Length of a block of zeros that counts as a hole left by a broken copy; no text has so long a run of id 0."""
_MOST_HEAD_BYTES = 16 << 20
"""Greatest number of bytes that are kept of the end of a document that began in the previous shard."""

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Beyond:
    """The first token that is not in the vocabulary, and the number of such tokens."""

    position: int
    token: int
    count: int


@dataclass(frozen=True)
class Scan:
    """The result of a scan.

    Attributes:
        tokens: number of tokens.
        documents: number of documents that begin in the shard.
        smallest, largest: smallest and largest id.
        first, last: ids of the first and last token.
        beyond: the ids that are not in the vocabulary; None: all are.
        hole: position of the first block of zeros; None: there is none.
        text_bytes: bytes that all tokens but the first stand for; None: there is no table of bytes, or it lacks an id.
        hashes: hashes of the documents that begin and end in the shard, uint64 `[n]`, in order.
        head: the tokens before the first document as bytes, which end a document of the previous shard.
        tail: the unfinished hash of the last document, which may continue in the next shard; None: no document begins.
    """

    tokens: int
    documents: int
    smallest: int
    largest: int
    first: int
    last: int
    beyond: Beyond | None
    hole: int | None
    text_bytes: int | None
    hashes: Hashes
    head: bytes
    tail: Any


def scan(path: Path, vocab_size: int | None = None, table: TokenBytes | None = None) -> Scan:
    """Read a shard once, in pieces; threads can scan several shards at a time.

    Args:
        path: the shard.
        vocab_size: vocabulary size; None: ids are not checked.
        table: table of bytes by id; None: bytes are not counted.

    Raises:
        InputError: as `Shard`.
    """
    shard = Shard(path)
    documents = _Documents()
    smallest, largest, count, first_beyond, hole = 65535, 0, 0, None, None
    total, before, escaped = 0, None, False
    for start in range(0, shard.tokens, PIECE_TOKENS):
        piece = shard.read(start, PIECE_TOKENS)
        most = int(piece.max())
        smallest, largest = min(smallest, int(piece.min())), max(largest, most)
        if vocab_size is not None and most >= vocab_size:
            where = np.flatnonzero(piece >= vocab_size)
            first_beyond = first_beyond or (start + int(where[0]), int(piece[where[0]]))
            count += len(where)
        if hole is None and (at := _hole(piece)) is not None:
            hole = start + at
        if table is not None and largest < len(table.base):
            joined = piece if before is None else np.concatenate([before, piece])
            counts = table.along(joined, escaped)
            total += int(counts.sum())
            escaped = len(counts) > 0 and table.is_literal_escape(int(piece[-1]), int(counts[-1]))
            before = piece[-1:]
        documents.add(piece)
    return Scan(
        tokens=shard.tokens,
        documents=documents.begun,
        smallest=smallest,
        largest=largest,
        first=int(shard.read(0, 1)[0]),
        last=int(piece[-1]),
        beyond=Beyond(*first_beyond, count) if first_beyond else None,
        hole=hole,
        text_bytes=total if table is not None and largest < len(table.base) else None,
        hashes=documents.hashes(),
        head=bytes(documents.head),
        tail=documents.open,
    )


def _hole(piece: Tokens) -> int | None:
    """Position of the first block that is all zeros."""
    whole = piece[: len(piece) // BLOCK_TOKENS * BLOCK_TOKENS].reshape(-1, BLOCK_TOKENS)
    # One token nearly always rules a block out; only blocks with a zero there are checked in full.
    suspects = np.flatnonzero(whole[:, 0] == 0)
    empty = suspects[~whole[suspects].any(axis=1)]
    return int(empty[0]) * BLOCK_TOKENS if len(empty) else None


class _Documents:
    """Hashes the documents of a shard incrementally."""

    def __init__(self) -> None:
        self.begun = 0
        self.head = bytearray()
        self.open: Any = None
        self._digests: list[bytes] = []

    def add(self, piece: Tokens) -> None:
        starts = np.flatnonzero(piece == BOS_ID).tolist()
        content = memoryview(piece.tobytes())
        until = 2 * starts[0] if starts else len(content)
        if self.open is None:
            if len(self.head) < _MOST_HEAD_BYTES:
                self.head += content[:until]
        else:
            self.open.update(content[:until])
        if not starts:
            return
        if self.open is not None:
            self._digests.append(self.open.digest())
        for start, stop in itertools.pairwise(starts):
            self._digests.append(_hash(content[2 * start : 2 * stop]).digest())
        self.begun += len(starts)
        self.open = _hash(content[2 * starts[-1] :])

    def hashes(self) -> Hashes:
        return np.frombuffer(b"".join(self._digests), np.uint64)


def _hash(content: memoryview | bytes) -> Any:
    return hashlib.blake2b(content, digest_size=8)


_NO_TEXT = np.frombuffer(_hash(np.array([BOS_ID], "<u2").tobytes()).digest(), np.uint64)
"""Hash of an empty document."""


def joined(scans: list[Scan]) -> Hashes:
    """Distinct hashes of the documents of consecutive shards, in numerical order.

    A document that spans shards counts as one; empty documents are ignored.
    """
    ends = []
    tail = None
    for each in scans:
        if tail is not None:
            tail = tail.copy()
            tail.update(each.head)
            if each.tail is None:  # no document begins in it
                continue
            ends.append(tail.digest())
        tail = each.tail
    if tail is not None:
        ends.append(tail.digest())
    between = np.frombuffer(b"".join(ends), np.uint64)
    return np.setdiff1d(np.concatenate([between, *(each.hashes for each in scans)]), _NO_TEXT)
