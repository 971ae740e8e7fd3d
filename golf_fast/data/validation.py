"""The validation tokens to be scored, and the number of bytes of text that each stands for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golf_fast.data.token_bytes import TokenBytes
from golf_fast.data.tokenizer import BOS_ID
from golf_fast.errors import InputError

_COUNTED_AT_ONCE = 1 << 22  # tokens whose bytes are looked up at a time, to keep the int64 counts small


@dataclass(frozen=True)
class Validation:
    """Tokens to be scored, and the bytes that each target stands for. All tokens except the first are targets.

    Attributes:
        tokens: uint16 `[targets + 1]`.
        byte_counts: uint16 `[targets]`, UTF-8 bytes of the text of each target after the token before it.

    Raises:
        InputError: there are fewer than 2 tokens, or there are no bytes.
    """

    tokens: npt.NDArray[np.uint16]
    byte_counts: npt.NDArray[np.uint16]

    def __post_init__(self) -> None:
        assert self.tokens.dtype == self.byte_counts.dtype == np.uint16
        assert self.tokens.ndim == self.byte_counts.ndim == 1
        _require_two(self.tokens)
        assert len(self.byte_counts) == len(self.tokens) - 1
        if not self.byte_counts.any():
            raise InputError(
                f"the {len(self.tokens)} validation tokens stand for 0 bytes of text: bits per byte need some"
            )

    @property
    def targets(self) -> int:
        """Number of tokens that are scored."""
        return len(self.byte_counts)

    @property
    def bytes(self) -> int:
        """Total number of bytes of text that the targets stand for."""
        return int(self.byte_counts.sum(dtype=np.int64))

    @property
    def sha256(self) -> str:
        """Hash of the tokens, as little-endian uint16."""
        return hashlib.sha256(np.ascontiguousarray(self.tokens, dtype="<u2").data).hexdigest()

    def documents(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The first token of each document and the bytes of its text, each int64 `[documents]`.

        Tokens before the first `BOS_ID` count as a document.
        """
        starts = np.union1d([0], np.flatnonzero(self.tokens[: self.targets] == BOS_ID)).astype(np.int64)
        return starts, np.add.reduceat(self.byte_counts, starts, dtype=np.int64)

    @classmethod
    def counted(cls, tokens: npt.NDArray[np.uint16], token_bytes: TokenBytes) -> Validation:
        """`tokens` with the byte counts of a tokenizer.

        Raises:
            InputError: there are fewer than 2 tokens, an id is not in `token_bytes`, or there are no bytes.
        """
        _require_two(tokens)
        return cls(tokens, count_bytes(tokens, token_bytes))

    @classmethod
    def recorded(cls, tokens: npt.NDArray[np.uint16], numbers: npt.NDArray[np.uint16]) -> Validation:
        """`tokens` with the byte counts of their side-car, a number for each token.

        Raises:
            InputError: there are fewer than 2 tokens, a document's first token stands for bytes, or there are no bytes.
        """
        _require_two(tokens)
        assert len(numbers) == len(tokens)
        wrong = np.flatnonzero((tokens == BOS_ID) & (numbers > 0))
        if wrong.size:
            raise InputError(
                f"validation token {wrong[0]} begins a document, but by its side-car it stands for {numbers[wrong[0]]} "
                "bytes: it must be 0"
            )
        return cls(tokens, numbers[1:].copy())


def count_bytes(tokens: npt.NDArray[np.uint16], token_bytes: TokenBytes) -> npt.NDArray[np.uint16]:
    """The bytes of each of `tokens` [n] except the first: uint16 [n - 1].

    Raises:
        InputError: an id is not in `token_bytes`.
    """
    byte_counts = np.empty(len(tokens) - 1, np.uint16)
    escaped = False
    for start in range(0, len(byte_counts), _COUNTED_AT_ONCE):
        piece = tokens[start : start + _COUNTED_AT_ONCE + 1]
        if (largest := int(piece.max())) >= len(token_bytes.base):
            at = start + int(np.argmax(piece == largest))
            raise InputError(f"validation token {at} is {largest}: the tokenizer has {len(token_bytes.base)} ids")
        counts = token_bytes.along(piece, escaped)
        byte_counts[start : start + _COUNTED_AT_ONCE] = counts
        escaped = token_bytes.is_literal_escape(int(piece[-1]), int(counts[-1]))
    return byte_counts


def _require_two(tokens: npt.NDArray[np.uint16]) -> None:
    if len(tokens) < 2:
        raise InputError(f"the validation tokens are {len(tokens)}: at least 2 are needed to score one")
