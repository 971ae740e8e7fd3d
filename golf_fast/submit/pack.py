"""Compresses text by context mixing into bytes for a string literal; `golf_fast.submit.mixing` has the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from golf_fast.submit.mixing import LANES, LOW, MOST, RADIX, WORD, run_model

if TYPE_CHECKING:
    from golf_fast.submit.mixing import Integers

_ALLOWED = np.array([byte for byte in range(256) if byte not in b'\0\r"\\'], np.uint8)


def pack(text: bytes) -> bytes:
    """The packed text, as bytes without 0, carriage return, double quote and backslash.

    Raises:
        ValueError: the text has more than `MOST` bytes.
    """
    if len(text) > MOST:
        raise ValueError(f"{len(text):,} bytes are more than {MOST:,}")
    bits = 8 if any(byte > 127 for byte in text) else 7
    size = -(-len(text) // LANES)
    lanes = np.frombuffer(text.ljust(size * LANES, b"\0"), np.uint8).astype(int).reshape(LANES, size)
    stream = [lanes[:, at] >> bit & 1 for at in range(size) for bit in range(bits)[::-1]]
    guessed: list[Integers] = []

    def noted(p: Integers) -> Integers:
        guessed.append(p)
        return stream[len(guessed) - 1]

    run_model(size, bits, noted)
    state, words = np.full(LANES, LOW), list[int]()
    for ones, p in zip(stream[::-1], guessed[::-1], strict=True):
        share, first = np.where(ones, p, 65536 - p), np.where(ones, 0, p)
        state = _emptied(state, (LOW >> 16) * WORD * share, words)
        state = (state // share << 16) + state % share + first
    for limit in (WORD**2, 0, 0):
        state = _emptied(state, np.full(LANES, limit), words)
    words += [(bits << 6) + len(text) // WORD, len(text) % WORD]
    digits = np.array([divmod(word, RADIX) for word in words[::-1]])
    return bytes(_ALLOWED[digits].tobytes())


def _emptied(state: Integers, limit: Integers, words: list[int]) -> Integers:
    """Renormalize the states at or above the limit by one word each; the words are recorded, the last lane's first."""
    full = state >= limit
    words += (state[full] % WORD)[::-1].tolist()
    return np.where(full, state // WORD, state)
