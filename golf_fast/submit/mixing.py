"""Decompresses text that `golf_fast.submit.pack` compressed by context mixing; the built file contains this module.

Many small predictors of the next bit are mixed by a network, and all of them are trained online. The text is cut into
equal lanes that advance together, so that each step consists of a few array operations; all lanes share the trained
state. All arithmetic is on integers, so that text packed on one machine can be unpacked on another. If an assignment
has a repeated index, NumPy keeps the last value; a version that behaved differently would be detected, since the coder
of each lane ends in its initial state only if every prediction was the same.

After PAQ (Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression", 2005) and range variants of
asymmetric numeral systems (Duda, arXiv:1311.2540).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from numpy.typing import NDArray

    Integers: TypeAlias = NDArray[np.int64]
LANES = 32
RADIX = 252
"""Number of digits of the packed form: all bytes except the four that a Python string literal would have to escape."""
WORD = RADIX**2
"""Radix of a word of two digits, the unit in which the coder of a lane is renormalized."""
LOW = 1 << 20
"""Least state of the coder of a lane."""
MOST = 1 << 19
"""Greatest number of bytes of a text that is packed or unpacked."""
_MASK = (1 << 32) - 1
_FACTOR = 0x2F0B4C47


def unpacked(packed: bytes) -> bytes:
    """The unpacked text.

    Raises:
        ValueError: the packed bytes are damaged.
    """
    digits = np.frombuffer(packed, np.uint8).astype(int)
    digits -= 1 + (digits > 13) + (digits > 34) + (digits > 92)
    words = digits[::2] * RADIX + digits[1::2]
    length, bits = words[0] + words[1] % 64 * WORD, words[1] >> 6
    if length > MOST or bits > 8:
        raise ValueError("no such length")
    state, at = np.zeros(LANES, int), 2

    def fill() -> None:
        nonlocal at
        (lanes,) = (state < LOW).nonzero()
        begin, at = at, at + len(lanes)
        state[lanes] = state[lanes] * WORD + words[begin:at]

    def decoded(p: Integers) -> Integers:
        nonlocal state
        low, high = state & 65535, state >> 16
        ones = low < p
        state = np.where(ones, high * p + low, state - (high + 1) * p)
        fill()
        return ones * 1

    for _ in range(3):
        fill()
    text = run_model(-(-length // LANES), bits, decoded)
    if at < len(words) or (state != LOW).any():
        raise ValueError("no such end")
    return text.astype(np.uint8).tobytes()[:length]


def run_model(size: int, bits: int, code: Callable[[Integers], Integers]) -> Integers:
    """Run the model over a text of `size` characters of `bits` bits per lane, and return the text.

    Args:
        size: number of characters of each lane.
        bits: number of bits of a character.
        code: function from the probabilities [LANES], in 1/65536, that the next bit of each lane is 1, to the bits.
    """
    squash = np.array([int(65536 / (1 + (Decimal(-x) / 256).exp())) for x in range(-2048, 2048)])
    stretch = np.searchsorted(squash, np.arange(4096) * 16 + 8) - 2048
    rates = 655360 // (np.arange(1024) * 10 + 13)
    states = np.full(1 << 25, 1 << 31, np.uint32)
    refined = squash[np.arange(1 << 17) % 32 * 128 + 64]
    text = np.zeros(LANES * size + 1, int)
    weights = np.zeros(0, int)
    for step, (keys, expected, length, before) in enumerate(contexts(text, size)):
        count = keys.shape[1]
        if not step:
            weights = np.full(1024 * (count + 2), 65536 // count)
            inputs = np.full((LANES, count + 2), 256)
        rate = 12 + 24000 // (250 + step)
        node = before * 0 + 1
        for bit in range(bits)[::-1]:
            agrees = ((expected | 1 << bits) >> bit + 1 == node) * (length > 0)
            index = np.c_[
                keys + (node * 0x9E3779B1)[:, None] >> 7 & 0x1FFFFFF,
                agrees * (np.minimum(length, 15) * 2 + (expected >> bit & 1) + 2),
            ].ravel()
            old = states.take(index).astype(int)
            inputs[:, :-1] = stretch.take(old >> 20).reshape(LANES, count + 1)
            sets = [agrees * (1 + (length > 7)) * 256 + node, before + 768]
            chosen = np.array(sets)[:, :, None] * (count + 2) + np.arange(count + 2)
            sums = np.einsum("mli,li->ml", weights.take(chosen), inputs) >> 16
            mixed = (sums.sum(0) >> 1) + 2048
            where = (before * 256 + node) * 32 + (np.minimum(np.maximum(mixed, 0), 4095) >> 7) & 0x1FFFF
            fine = refined[where]
            ones = code(squash.take(mixed, mode="clip") + fine >> 1)
            wanted = ones << 16
            errors = (wanted - squash.take(sums + 2048, mode="clip")) * rate
            np.add.at(weights, chosen.ravel(), (errors[:, :, None] * inputs + 524288 >> 20).ravel())
            refined[where] = fine + (wanted - fine >> 6)
            moved = (np.repeat(ones << 32, count + 1) - old >> 16) * rates.take(old & 1023)
            states[index] = old + (moved & -1024) + 1
            node = node * 2 + ones
        text[step : LANES * size : size] = node - (1 << bits)
    return text[:-1]


def contexts(text: Integers, size: int) -> Generator[tuple[Integers, Integers, Integers, Integers], None, None]:
    """Yield the contexts of each character of the lanes, which depend on the characters before it in the text.

    They are hashes of contexts [LANES, count], the character that followed the last occurrence of the same five
    characters, the number of times that such a prediction was right, and the previous character.
    """
    recent = np.zeros((8, LANES), int)
    word, earlier, earliest, called, indent, first, column, place, length = np.zeros((9, LANES), int)
    last, starts = np.zeros(1 << 20, int), np.arange(LANES) * size
    for step in range(size):
        expected = text[place]
        order, orders = starts * 0, []
        for each in recent:
            orders.append(order)
            order = (order + each + 1) * _FACTOR + len(orders) & _MASK
        a, b, c, d = recent[:4]
        likely = np.where(length, expected + 1, 0)
        found = [
            *orders,
            *(word + a * 31, word + earlier * 0x193 + a * 977),
            likely * 32 + np.minimum(length, 31),
            word + earlier * 0x193 + earliest * 0x9B1,
            b * 257 + c * 65537,
            indent * 256 + first * 65537 + a * 7,
            column * 256 + a * 196608,
            orders[2] * 31 + earlier,
            orders[1] * 31 + first * 7 + earlier * 17,
            a + c * 1792 + d * 196608,
            word * 3 + first,
            orders[3] * 7 + likely,
            earliest * 7 + word,
            b * 257 + c * 196611 + d * 518979,
            orders[1] * 3 + likely * 65537,
            orders[2] * 5 + likely * 196611,
            word * 5 + likely * 1299721,
            *(called * 31 + a, called * 5 + word),
        ]
        keys = (np.stack(found, 1) + np.arange(len(found)) * 0x1234567 & _MASK) * _FACTOR & _MASK
        yield keys, expected, length, a
        now = text[starts + step]
        recent = np.r_[[now], recent[:-1]]
        inside = (now > 47) & (now < 58) | (now > 64) & (now < 91) | (now == 95) | (now > 96)
        ended = (word > 0) & ~inside
        earliest, earlier = np.where(ended, [earlier, word], [earliest, earlier])
        word = (word * 773 + now) * _FACTOR * inside & _MASK
        called = np.where(now == 40, earlier, called)
        same = (now != 10) & (now != 1)
        blank = (first == 0) & same
        indent = (indent + blank * (now == 9)) * same
        first = np.where(blank & (now != 9), now, first * same)
        column = (column + 1) * same
        length = (length + 1) * (length > 0) * (expected == now)
        order = orders[0]
        for each in recent[:5]:
            order = (order + each + 1) * _FACTOR & _MASK
        seen = last[order >> 12]
        place = np.where(length, place + 1, seen)
        length += (length == 0) & (seen > 0)
        last[order >> 12] = starts + step + 1
