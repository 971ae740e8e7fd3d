"""Finds validation text that also occurs in the training text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from golf_fast.data.dataset import Dataset
from golf_fast.data.shards import Shard
from golf_fast.data.tokenizer import BOS_ID, Tokenizer

TEXT_TOKENS = 1 << 23
"""Greatest total number of tokens for which the texts themselves are compared, without spaces and capitals."""
SAMPLED_TOKENS = 1 << 26
"""Number of training tokens, spread evenly over the shards, whose spans are compared if there are more."""
SAMPLED_VALIDATION_TOKENS = 1 << 23

_PIECES = 64
"""Number of places of a shard that are sampled, so that text in its middle is found too."""
_LEAST_PIECE = 256

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """The result of a comparison.

    Attributes:
        documents: number of validation documents that were compared as a whole; 0 if only spans were compared.
        documents_found: number of those that are also training documents, apart from spaces and capitals.
        spans: number of sampled spans of the validation text, whose positions depend on their content, so that the same
            text gives the same spans anywhere.
        spans_found: number of those that also occur in the training text.
        left_out: text on what was not compared; "": everything was.
    """

    documents: int
    documents_found: int
    spans: int
    spans_found: int
    left_out: str = ""

    @property
    def documents_shared(self) -> float:
        """Share of the documents that were found."""
        return self.documents_found / max(self.documents, 1)

    @property
    def spans_shared(self) -> float:
        """Share of the spans that were found."""
        return self.spans_found / max(self.spans, 1)

    @property
    def partial(self) -> str:
        """A text on partial overlap or an incomplete comparison; empty if nothing is shared and all was compared."""
        said = []
        if self.documents_found:
            said.append(f"{self.documents_found} of {self.documents} held-out documents are training documents too")
        if self.spans_found:
            said.append(f"{self.spans_shared:.1%} of {self.spans} spans of the held-out text are in the training text")
        return "; ".join([*said, self.left_out] if self.left_out else said)


def find_overlap(dataset: Dataset) -> Overlap:
    """Compare the validation text of a data set with its training text.

    Raises:
        InputError: a shard cannot be read.
    """
    sizes = [sum(Shard(path).tokens for path in paths) for paths in (dataset.train_shards, dataset.val_shards)]
    if sum(sizes) <= TEXT_TOKENS:
        return _of_texts(dataset)
    train, val = (
        np.concatenate(list(_sampled(paths, most)))
        for paths, most in ((dataset.train_shards, SAMPLED_TOKENS), (dataset.val_shards, SAMPLED_VALIDATION_TOKENS))
    )
    looked_at = [f"{len(seen):,} of {size:,}" for seen, size in zip((train, val), sizes, strict=True)]
    left_out = f"of the training tokens {looked_at[0]} were compared, of the validation tokens {looked_at[1]}"
    whole = len(train) == sizes[0] and len(val) == sizes[1]
    spans = _spans(val, 3, 32)
    return Overlap(0, 0, len(spans), _found(spans, _spans(train, 3, 32)), "" if whole else left_out)


def _of_texts(dataset: Dataset) -> Overlap:
    tokenizer = dataset.tokenizer()
    train, val = (list(_documents(paths, tokenizer)) for paths in (dataset.train_shards, dataset.val_shards))
    known = {hashlib.sha256(text).digest() for text in train}
    whole = [text for text in val if text]
    spans = _spans(_letters(val), 8, 64)
    return Overlap(
        len(whole),
        sum(hashlib.sha256(text).digest() in known for text in whole),
        len(spans),
        _found(spans, _spans(_letters(train), 8, 64)),
    )


def _documents(paths: list[Path], tokenizer: Tokenizer) -> Iterator[bytes]:
    """The text of each document, without spaces and capitals."""
    for path in paths:
        shard = Shard(path)
        tokens = shard.read(0, shard.tokens)
        for piece in np.split(tokens, np.flatnonzero(tokens == BOS_ID)):
            text = tokenizer.decode_bytes(piece).decode("utf-8", "replace")
            yield "".join(text.split()).casefold().encode()


def _letters(texts: list[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"\0".join(texts), np.uint8)


def _sampled(paths: list[Path], most: int) -> Iterator[npt.NDArray[np.uint16]]:
    """Pieces of each shard, spread evenly over it, or all of it; together `most` tokens at most."""
    for path in paths:
        shard, own = Shard(path), most // len(paths)
        if shard.tokens <= own:
            yield shard.read(0, shard.tokens)
            continue
        pieces = max(1, min(_PIECES, own // _LEAST_PIECE))
        for k in range(pieces):
            before, after = own * k // pieces, own * (k + 1) // pieces
            yield shard.read(before + k * (shard.tokens - own) // max(pieces - 1, 1), after - before)


def _spans(values: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], anchor: int, length: int) -> Hashes:
    """Hashes of the spans of `length` values after each anchor, which is `anchor` values whose hash is a multiple of
    64."""
    if len(values) < anchor + length:
        return np.zeros(0, np.uint64)
    factors = np.random.default_rng(1).integers(0, 1 << 63, anchor + length, dtype=np.uint64) | np.uint64(1)
    ends = len(values) - anchor - length + 1
    mixed = np.zeros(ends, np.uint64)
    for i in range(anchor):
        mixed += values[i : i + ends] * factors[i]
    starts = np.flatnonzero((mixed >> np.uint64(58)) == 0) + anchor
    hashes = np.zeros(len(starts), np.uint64)
    for i in range(length):
        hashes = (hashes ^ (hashes >> np.uint64(29))) + values[starts + i] * factors[anchor + i]
    return np.unique(hashes)


def _found(spans: Hashes, known: Hashes) -> int:
    return int(np.isin(spans, known, assume_unique=True).sum())
