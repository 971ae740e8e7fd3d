"""A hash of the text of each document, which is the same whatever the tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from golf_fast.data.tokenizer import Tokenizer

_DIGITS = 16
"""Number of hexadecimal digits that are kept of a SHA-256, enough to distinguish millions of texts."""


def text_hashes(tokens: npt.NDArray[np.uint16], starts: Sequence[int], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The first 16 hexadecimal digits of the SHA-256 of each document, as its bytes are decoded.

    Args:
        tokens: of the documents, `[targets + 1]`.
        starts: where each document begins, from 0, rising: at its BOS, which is none of its text, or the first at a
            token that is not scored.
    """
    return tuple(
        _hash(tokens[start : stop + 1], tokenizer)
        for start, stop in zip(starts, [*starts[1:], len(tokens) - 1], strict=True)
    )


def _hash(tokens: npt.NDArray[np.uint16], tokenizer: Tokenizer) -> str:
    before = len(tokenizer.decode_bytes(tokens[:1]))
    return hashlib.sha256(tokenizer.decode_bytes(tokens)[before:]).hexdigest()[:_DIGITS]
