"""The entropy coder in NumPy alone, for submissions to carry; byte-identical with csrc/rans/; see docs/artifact.md."""

from decimal import Decimal
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
U64, LOW, SCALE_BITS, CONTEXTS, FINE, MAX_VALUES, COL_MIN, COL_MAX = np.uint64, 1 << 16, 15, 72, 352, 1 << 28, -24, 23
TOTAL, NONE = 1 << SCALE_BITS, np.empty(0, np.int64)
STORED, GLOBAL, ROW, RANK1, HISTOGRAM = range(5)
MIXTURES = [(0, 0, 0), (1, -2, 17), (2, -3, 15), (4, -6, 12), (1, -4, 28), (2, -7, 25), (4, -13, 19), (2, -16, 35)]
MIXTURES += [(5, -22, 20), (1, -15, 49)]  # sixteenths of the second Gaussian, both sigmas in 1/32 of an octave
TWO = Decimal(2)  # decimal arithmetic is the same on every machine, which the powers of a libm are not
EIGHTHS = np.array([round(TWO ** (Decimal(i) / 8) * 2**30) for i in range(8)])
ROOTS = [round(TWO ** -(TWO ** -(i + 1)) * 2**32) for i in range(16)]
CURVATURE = [round(TWO ** (36 - Decimal(i) / 16) / (2 * TWO.ln())) for i in range(16)]  # log2(e) / 2 / sigma^2
# Gaussians of sigma = 2^(fine/32 - 2) at the magnitudes 0 to 128, times 2^30, [FINE, 129].
EXPONENTS = np.array([[k * k * (CURVATURE[f % 16] >> f // 16) for k in range(129)] for f in range(FINE)], U64)
DENSITIES = np.full(EXPONENTS.shape, 1 << 32, U64)
for bit, root in enumerate(ROOTS):
    DENSITIES = np.where(EXPONENTS >> U64(31 - bit) & U64(1), DENSITIES * U64(root) >> U64(32), DENSITIES)
DENSITIES = DENSITIES >> U64(2) >> np.minimum(EXPONENTS >> U64(32), U64(40))


def power_of_two(eighths: Any, shift: int) -> Array:
    """floor(2^(eighths / 8 + shift)) of integers, uint64."""
    e = np.asarray(eighths, np.int64)
    return np.asarray(EIGHTHS[e & 7] >> 30 - shift - (e >> 3), U64)


def _log2(x: Array) -> Array:
    """floor(log2(x) * 2^12) of positive integers, int64."""
    octave = np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1  # exact: x < 2^53
    mantissa = (x >> np.maximum(octave - 31, 0) << np.maximum(31 - octave, 0)).astype(U64)
    for _ in range(12):
        mantissa = mantissa * mantissa >> U64(31)
        octave = octave << 1 | (mantissa >> U64(32)).astype(np.int64)
        mantissa >>= mantissa >> U64(32)
    return octave


COSTS = np.concatenate([[0], (SCALE_BITS << 12) - _log2(np.arange(1, TOTAL + 1))])


def _tables(kind: int, bits: int, mixture: int, codes: Array) -> Array:
    """Where each symbol's interval begins, [contexts, 2^bits + 1] int64."""
    alphabet = 1 << bits
    if kind == HISTOGRAM:
        weights, least = np.where(codes > 0, power_of_two(codes, 14), U64(0))[None], (codes > 0)[None]
    else:
        second, *offsets = MIXTURES[mixture]
        fine = [np.clip(4 * np.arange(CONTEXTS) + offset, 0, FINE - 1) for offset in offsets]
        narrow, wide = (DENSITIES[f][:, np.abs(np.arange(alphabet) - alphabet // 2)] for f in fine)
        weights, least = narrow * U64(16 - second) + wide * U64(second), np.ones((CONTEXTS, alphabet), bool)
    before, taken = np.cumsum(weights, axis=1, dtype=U64), np.cumsum(least, axis=1, dtype=np.int64)
    cumulative = taken + (before * (TOTAL - taken[:, -1:]).astype(U64) // before[:, -1:]).astype(np.int64)
    return np.concatenate([np.zeros((len(cumulative), 1), np.int64), cumulative], axis=1)


def _context_of(moments: Array, bits: int) -> Array:
    k = np.arange(-(1 << bits - 1), 1 << bits - 1)
    density = DENSITIES[4 * np.arange(1, CONTEXTS) - 2][:, np.abs(k)] >> U64(4)
    thresholds = ((density * (k * k).astype(U64)).sum(axis=1) << U64(14)) // density.sum(axis=1)
    return np.searchsorted(np.maximum.accumulate(thresholds), moments, side="right")


def _candidates(values: Array, bits: int, nested: bool) -> list[tuple[int, Array, Array, Array]]:
    """(kind, rows, cols, codes): the context of a value is clip(rows[i] + cols[j])."""
    squares = values.astype(np.int64).astype(U64) ** U64(2)
    row, col = rows, cols = [np.zeros(side, np.int64) for side in values.shape]
    found = [(GLOBAL, row + _context_of((squares.sum() << U64(14)) // U64(values.size), bits), col, NONE)]
    if nested:
        return found
    factors = power_of_two(2 * np.arange(COL_MIN + 1, COL_MAX + 1) - 1, 20)
    for kind in (ROW, RANK1, RANK1)[: 3 if len(col) > 1 else 1] if len(row) > 1 else ():
        if kind == RANK1:
            sums = (squares * power_of_two(-2 * rows, 24)[:, None]).sum(axis=0)
            cols = COL_MIN + np.searchsorted(factors, sums // U64(len(rows)), side="right")
        rows = _context_of((squares * power_of_two(-2 * cols, 14)).sum(axis=1) // U64(len(cols)), bits)
        found = [*found[:2], (kind, rows, cols, NONE)]
    counts = np.bincount(values.reshape(-1).astype(np.int64) + (1 << bits - 1), minlength=1 << bits)
    logs = _log2(np.maximum(counts, 1))
    codes = np.where(counts > 0, np.maximum(127 - ((logs.max() - logs) * 8 + 2048 >> 12), 1), 0)
    return [*found, (HISTOGRAM, row, col, codes)]


def _head(kind: int, bits: int, shape: tuple[int, ...], mixture: int, rows: Array, cols: Array, codes: Array) -> bytes:
    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    mean = int(rows.sum()) // max(len(rows), 1)
    out = bytes([0x10 | kind, bits]) + varint(shape[0]) + varint(shape[1])
    out += bytes([mixture, mean]) if kind in (GLOBAL, ROW, RANK1) else b""
    sides = [np.diff(codes, prepend=0)] if kind == HISTOGRAM else [rows - mean, cols]
    for values in sides[: (0, 0, 1, 2, 1)[kind]]:
        blob = encode(values.astype(np.int8)[None], 8, nested=True)
        out += varint(len(blob)) + blob
    return out


def encode(values: Array, bits: int, nested: bool = False) -> bytes:
    """The blob of an int8 [rows, cols] array of values within [-2^(bits-1), 2^(bits-1) - 1]."""
    plain = _head(STORED, bits, values.shape, 0, NONE, NONE, NONE) + values.tobytes()
    if values.size == 0:
        return plain
    symbols, best = values.astype(np.int64) + (1 << bits - 1), (1 << 62, b"", NONE, np.empty((0, 0), np.int64))
    for kind, rows, cols, codes in _candidates(values, bits, nested):
        contexts = np.clip(rows[:, None] + cols, 0, CONTEXTS - 1)
        counts = np.bincount((contexts << bits | symbols).reshape(-1), minlength=CONTEXTS << bits).reshape(CONTEXTS, -1)
        tables = [_tables(kind, bits, m, codes) for m in range(len(MIXTURES) if kind != HISTOGRAM else 1)]
        sizes = [int((counts[: len(each)] * COSTS[np.diff(each)]).sum()) for each in tables]
        mixture = int(np.argmin(sizes))
        head = _head(kind, bits, values.shape, mixture, rows, cols, codes)
        if (size := sizes[mixture] + (len(head) << 15)) < best[0]:
            best = (size, head, contexts, tables[mixture])
    lanes = min(max(values.size // 4096, 1), 1024)
    starts, ends = (best[3][best[2].reshape(-1), symbols.reshape(-1) + end] for end in (0, 1))
    frequencies, states, words = ends - starts, np.full(lanes, LOW, np.int64), []
    for begin in range((values.size - 1) // lanes * lanes, -1, -lanes):
        start, frequency = starts[begin : begin + lanes], frequencies[begin : begin + lanes]
        state = states[: start.size]
        full = state >= frequency << 17
        words.append((state[full] & 0xFFFF).astype("<u2").tobytes())
        state = np.where(full, state >> 16, state)
        states[: start.size] = (state // frequency << SCALE_BITS) + state % frequency + start
    blob = best[1] + states.astype("<u4").tobytes() + b"".join(reversed(words))
    return blob if len(blob) < len(plain) else plain


def _check(condition: Any, what: str) -> None:
    if not condition:
        raise ValueError(what)


def decode(blob: bytes, side: int = 0) -> Array:
    """The int8 [rows, cols] array of a blob, or `side` values within one; ValueError if no encoder writes it."""
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        _check(size <= len(blob) - at, "it ends too early")
        at += size
        return blob[at - size : at]

    def varint(place: int = 0) -> int:
        byte = take(1)[0]
        _check(place < 5 and (byte > 0 or place == 0), "a number in more bytes than it needs")
        return byte & 127 | (varint(place + 1) << 7 if byte > 127 else 0)

    tag, bits = take(2)
    rows, cols, kind = varint(), varint(), tag - 0x10
    _check(0 <= kind <= HISTOGRAM and 2 <= bits <= 8, "an unknown version, model or width")
    _check(max(rows, 1) * max(cols, 1) <= MAX_VALUES and (kind == STORED or rows * cols), "an impossible shape")
    _check(not side or ((rows, cols, bits) == (1, side, 8) and kind <= GLOBAL), "side values of another shape")
    if kind == STORED:
        values = np.frombuffer(take(rows * cols), np.int8).reshape(rows, cols)
        _check(np.all(values >> bits - 1 == values >> 7) and at == len(blob), "values too wide, or bytes left over")
        return values
    codes, mixture, row, col = NONE, 0, np.zeros(rows, np.int64), np.zeros(cols, np.int64)
    if kind == HISTOGRAM:
        codes = np.cumsum(decode(take(varint()), 1 << bits), dtype=np.int8)
        _check((codes >= 0).all() and codes.any(), "a histogram of no symbols")
    else:
        mixture, mean = take(2)
        row += mean + (decode(take(varint()), rows)[0].astype(np.int64) if kind != GLOBAL else 0)
        col += decode(take(varint()), cols)[0] if kind == RANK1 else 0
        _check(mixture < len(MIXTURES) and max(mean, row.max()) < CONTEXTS, "an unknown mixture or context")
        _check(min(row.min(), col.min() - COL_MIN) >= 0 and col.max() <= COL_MAX, "a scale out of range")
    contexts = np.clip(row[:, None] + col, 0, CONTEXTS - 1).reshape(-1)
    symbols = _decode_stream(take(len(blob) - at), contexts, _tables(kind, bits, mixture, codes))
    return np.asarray(symbols - (1 << bits - 1), np.int8).reshape(rows, cols)


def _decode_stream(stream: bytes, contexts: Array, tables: Array) -> Array:
    lanes = min(max(contexts.size // 4096, 1), 1024)
    _check(len(stream) >= 4 * lanes and len(stream) % 2 == 0, "it ends too early")
    states: Array = np.frombuffer(stream, "<u4", lanes).astype(np.int64)
    words, at = np.frombuffer(stream, "<u2", offset=4 * lanes).astype(np.int64), 0
    _check(states.min() >= LOW, "a state out of range")
    entries: Array = np.empty((CONTEXTS, TOTAL), np.int64)  # symbol << 32 | (slot - start) << 16 | frequency
    for context in np.unique(contexts):
        starts, frequencies = tables[context, :-1], np.diff(tables[context])
        each = (np.arange(starts.size) << 32) - (starts << 16) + frequencies
        entries[context] = np.repeat(each, frequencies) + (np.arange(TOTAL) << 16)
    entries, bases, symbols = entries.reshape(-1), contexts << SCALE_BITS, np.empty(contexts.size, np.int64)
    for begin in range(0, contexts.size, lanes):
        base = bases[begin : begin + lanes]
        state = states[: base.size]
        entry = entries[base + (state & TOTAL - 1)]
        symbols[begin : begin + lanes] = entry >> 32
        state = (entry & 0xFFFF) * (state >> SCALE_BITS) + (entry >> 16 & 0xFFFF)
        empty = np.flatnonzero(state < LOW)
        _check(at + empty.size <= words.size, "it ends too early")
        state[empty] = state[empty] << 16 | words[at : at + empty.size]
        at += empty.size
        states[: base.size] = state
    _check(at == words.size and (states == LOW).all(), "bytes are left over, or its states do not end where they began")
    return symbols
