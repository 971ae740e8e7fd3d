"""The entropy coder in plain NumPy, for submissions to carry; byte-identical with csrc/rans/; see docs/artifact.md."""

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
U64, LOW, SCALE_BITS, CONTEXTS, FINE, MAX_VALUES, COL_MIN, COL_MAX = np.uint64, 1 << 16, 15, 72, 352, 1 << 28, -24, 23
TOTAL, NONE = 1 << SCALE_BITS, np.empty(0, np.int64)
STORED, GLOBAL, ROW, RANK1, HISTOGRAM, GENERAL = range(6)
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


# Under a trellis, by states: the next state for each state and bit 1 of a value; a state allows values of its parity.
FLIPS = {4: (0, 0, 1, 1), 8: (0, 0, 1, 1, 1, 1, 0, 0)}
NEXT = {n: np.array([[(2 * s + (b ^ flips[s])) % n for b in (0, 1)] for s in range(n)]) for n, flips in FLIPS.items()}


class Model(NamedTuple):
    """The context of the residual in row i and column j is `clip(rows[i] + cols[j])`."""

    kind: int
    rows: Array
    cols: Array
    codes: Array = NONE  # of a histogram
    contexts: int = 0  # of GENERAL, as the following: which of GLOBAL, ROW and RANK1 says them
    states: int = 0  # of the trellis, 0 without one
    reach: int = 0  # the largest magnitude
    template: Array = NONE  # [cols], what is taken from the rows that are members; empty: nothing
    members: Array = NONE  # [rows] of 0 and 1


def _alphabets(model: Model, bits: int) -> list[Array]:
    """What residuals may be: of any kind, or under a trellis the even and the odd ones."""
    if model.kind != GENERAL:
        return [np.arange(-(1 << bits - 1), 1 << bits - 1)]
    every = np.arange(-model.reach, min(model.reach, 127) + 1)
    return [every[every % 2 == parity] for parity in (0, 1)] if model.states else [every]


def _tables(model: Model, alphabet: Array, mixture: int) -> Array:
    """Where the interval of each member of the alphabet begins, [contexts, size + 1] int64."""
    if model.kind == HISTOGRAM:
        weights, least = np.where(model.codes > 0, power_of_two(model.codes, 14), U64(0))[None], model.codes[None] > 0
    else:
        second, *offsets = MIXTURES[mixture]
        fine = [np.clip(4 * np.arange(CONTEXTS) + offset, 0, FINE - 1) for offset in offsets]
        narrow, wide = (DENSITIES[f][:, np.abs(alphabet)] for f in fine)
        weights, least = narrow * U64(16 - second) + wide * U64(second), np.ones((CONTEXTS, alphabet.size), bool)
    before, taken = np.cumsum(weights, axis=1, dtype=U64), np.cumsum(least, axis=1, dtype=np.int64)
    cumulative = taken + (before * (TOTAL - taken[:, -1:]).astype(U64) // before[:, -1:]).astype(np.int64)
    return np.concatenate([np.zeros((len(cumulative), 1), np.int64), cumulative], axis=1)


def _context_of(moments: Array, bits: int) -> Array:
    k = np.arange(-(1 << bits - 1), 1 << bits - 1)
    density = DENSITIES[4 * np.arange(1, CONTEXTS) - 2][:, np.abs(k)] >> U64(4)
    thresholds = ((density * (k * k).astype(U64)).sum(axis=1) << U64(14)) // density.sum(axis=1)
    return np.searchsorted(np.maximum.accumulate(thresholds), moments, side="right")


def _scaled(values: Array, bits: int) -> list[Model]:
    """Contexts by one scale, by rows, and by rows and columns, as far as there are any."""
    squares = values.astype(np.int64).astype(U64) ** U64(2)
    row, col = rows, cols = [np.zeros(side, np.int64) for side in values.shape]
    found = [Model(GLOBAL, row + _context_of((squares.sum() << U64(14)) // U64(values.size), bits), col)]
    factors = power_of_two(2 * np.arange(COL_MIN + 1, COL_MAX + 1) - 1, 20)
    for kind in (ROW, RANK1, RANK1)[: 3 if len(col) > 1 else 1] if len(row) > 1 else ():
        if kind == RANK1:
            sums = (squares * power_of_two(-2 * rows, 24)[:, None]).sum(axis=0)
            cols = COL_MIN + np.searchsorted(factors, sums // U64(len(rows)), side="right")
        rows = _context_of((squares * power_of_two(-2 * cols, 14)).sum(axis=1) // U64(len(cols)), bits)
        found = [*found[:2], Model(kind, rows, cols)]
    return found


def _states_of(values: Array) -> int:
    """The states of the trellis that every column is a path of; 0 if there is none, or no value is odd."""
    for states in (8, 4):
        state, follows = np.zeros(values.shape[1], np.int64), bool((values & 1).any())
        for row in values if follows else ():
            if follows := not ((row ^ state) & 1).any():
                state = NEXT[states][state, row >> 1 & 1]
            else:
                break
        if follows:
            return states
    return 0


def _alike(values: Array) -> tuple[Array, Array]:
    """The mean of rows that resemble one another, and a 1 for each of them; empty if there are none."""
    wide, (count, cols) = values.astype(np.int64), values.shape
    some, own = wide[:, :: max(cols // 64, 1)], np.square(wide).sum(axis=1)
    half, tries = np.square(some).sum(axis=1), np.arange(min(count, 64)) * count // min(count, 64)
    near = [int((2 * np.square(some - some[row]).sum(axis=1) < half).sum()) for row in tries]
    template = wide[tries[int(np.argmax(near))]] if max(near) else wide[0]
    for gain in (4, 4, 4, 7):
        left = wide - template
        members = (8 * np.square(left).sum(axis=1) < gain * own) & (left >> 7 == left >> 63).all(axis=1)
        size = int(members.sum())
        if size < 2:
            return NONE, NONE
        if gain == 4:
            template = (2 * wide[members].sum(axis=0) + size) // (2 * size)
    return template, members.astype(np.int64)


def _residuals(values: Array, model: Model) -> Array:
    taken = model.members[:, None] * model.template if model.members.size else 0
    return np.asarray(values - taken).astype(np.int8)


def _candidates(values: Array, bits: int, nested: bool) -> list[Model]:
    if nested:
        return _scaled(values.reshape(1, -1), bits)
    found, states, zero = _scaled(values, bits), _states_of(values), np.zeros(1, np.int64)
    counts = np.bincount(values.reshape(-1).astype(np.int64) + (1 << bits - 1), minlength=1 << bits)
    logs = _log2(np.maximum(counts, 1))
    codes = np.where(counts > 0, np.maximum(127 - ((logs.max() - logs) * 8 + 2048 >> 12), 1), 0)
    found.append(Model(HISTOGRAM, zero.repeat(values.shape[0]), zero.repeat(values.shape[1]), codes))
    general = [Model(GENERAL, zero, zero, states=states)] if states else []
    template, members = _alike(values)
    general += [Model(GENERAL, zero, zero, states=states, template=template, members=members)] if members.size else []
    for model in general:
        residuals = _residuals(values, model)
        reach = max(int(np.abs(residuals.astype(np.int64)).max()), 1)
        for kind, rows, cols, *_ in _scaled(residuals, 8):
            found.append(model._replace(rows=rows, cols=cols, contexts=kind, reach=reach))
    return found


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def _nested(values: Array) -> bytes:
    blob = encode(values.astype(np.int8)[None], 8, nested=True)
    return _varint(len(blob)) + blob


def _head(model: Model, bits: int, shape: tuple[int, ...], mixture: int) -> bytes:
    out = bytes([0x10 | model.kind, bits]) + _varint(shape[0]) + _varint(shape[1])
    mean, contexts = int(model.rows.sum()) // len(model.rows), model.contexts or model.kind
    if model.kind == GENERAL:
        out += bytes([model.contexts, model.states, model.reach, int(model.members.size > 0)])
        out += _nested(model.template) + _nested(model.members) if model.members.size else b""
    if contexts == HISTOGRAM:
        return out + _nested(np.diff(model.codes, prepend=0))
    out += bytes([mixture, mean]) + (_nested(model.rows - mean) if contexts != GLOBAL else b"")
    return out + (_nested(model.cols) if contexts == RANK1 else b"")


def _counts(residuals: Array, model: Model) -> Array:
    """How often each residual has each context, [contexts, 256]."""
    contexts = np.clip(model.rows[:, None] + model.cols, 0, CONTEXTS - 1)
    cells = np.bincount((contexts << 8 | residuals.astype(np.int64) + 128).reshape(-1), minlength=CONTEXTS << 8)
    return cells.reshape(CONTEXTS, 256)


def _cost(counts: Array, model: Model, bits: int, mixture: int) -> int:
    """What the residuals take, in units of 2^-12 bits."""
    total = 0
    for alphabet in _alphabets(model, bits):
        table = _tables(model, alphabet, mixture)
        total += int((counts[: len(table), alphabet + 128] * COSTS[np.diff(table)]).sum())
    return total


def encode(values: Array, bits: int, nested: bool = False) -> bytes:
    """The blob of an int8 [rows, cols] array of values within [-2^(bits-1), 2^(bits-1) - 1]."""
    plain = bytes([0x10 | STORED, bits]) + _varint(values.shape[0]) + _varint(values.shape[1]) + values.tobytes()
    if values.size == 0:
        return plain
    best = (1 << 62, b"", Model(STORED, NONE, NONE), 0)
    for model in _candidates(values, bits, nested):
        counts = _counts(_residuals(values, model), model)
        sizes = [_cost(counts, model, bits, m) for m in range(1 if model.kind == HISTOGRAM else len(MIXTURES))]
        mixture = int(np.argmin(sizes))
        head = _head(model, bits, values.shape, mixture)
        if (size := sizes[mixture] + (len(head) << 15)) < best[0]:
            best = (size, head, model, mixture)
    blob = best[1] + _encode_stream(_residuals(values, best[2]), best[2], bits, best[3])
    return blob if len(blob) < len(plain) else plain


def _encode_stream(residuals: Array, model: Model, bits: int, mixture: int) -> bytes:
    starts, frequencies = (np.zeros((CONTEXTS, 256), np.int64) for _ in range(2))
    for alphabet in _alphabets(model, bits):
        table = _tables(model, alphabet, mixture)
        starts[: len(table), alphabet + 128] = table[:, :-1]
        frequencies[: len(table), alphabet + 128] = np.diff(table)
    contexts = np.clip(model.rows[:, None] + model.cols, 0, CONTEXTS - 1)
    start_of, frequency_of = (each[contexts, residuals.astype(np.int64) + 128] for each in (starts, frequencies))
    start_of, frequency_of, count = start_of.reshape(-1), frequency_of.reshape(-1), residuals.size
    lanes = min(max(count // 4096, 1), 1024)
    states: Array = np.full(lanes, LOW, np.int64)
    words = []
    for begin in range((count - 1) // lanes * lanes, -1, -lanes):
        start, frequency = start_of[begin : begin + lanes], frequency_of[begin : begin + lanes]
        state = states[: start.size]
        full = state >= frequency << 17
        words.append((state[full] & 0xFFFF).astype("<u2").tobytes())
        state = np.where(full, state >> 16, state)
        states[: start.size] = (state // frequency << SCALE_BITS) + state % frequency + start
    return states.astype("<u4").tobytes() + b"".join(reversed(words))


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
    _check(0 <= kind <= GENERAL and 2 <= bits <= 8, "an unknown version, model or width")
    _check(max(rows, 1) * max(cols, 1) <= MAX_VALUES and (kind == STORED or rows * cols), "an impossible shape")
    _check(not side or ((rows, cols, bits) == (1, side, 8) and kind <= GLOBAL), "side values of another shape")
    if kind == STORED:
        values = np.frombuffer(take(rows * cols), np.int8).reshape(rows, cols)
        _check(np.all(values >> bits - 1 == values >> 7), "a value that its bits cannot hold")
        _check(at == len(blob), "bytes are left over")
        return values
    model = Model(kind, np.zeros(rows, np.int64), np.zeros(cols, np.int64), contexts=kind)
    if kind == GENERAL:
        contexts, states, reach, alike = take(4)
        _check(GLOBAL <= contexts <= RANK1 and states in (0, 4, 8) and 1 <= reach <= 128, "a model out of range")
        _check(alike <= 1, "neither a template nor none")
        template, members = (decode(take(varint()), n)[0].astype(np.int64) if alike else NONE for n in (cols, rows))
        _check(members.size == 0 or (members.min() >= 0 and members.max() <= 1), "a row neither a member nor none")
        model = Model(kind, model.rows, model.cols, NONE, contexts, states, reach, template, members)
    mixture = 0
    if kind == HISTOGRAM:
        model = model._replace(codes=np.cumsum(decode(take(varint()), 1 << bits), dtype=np.int8))
        _check((model.codes >= 0).all() and model.codes.any(), "a histogram of no symbols")
    else:
        mixture, mean = take(2)
        row, col = model.rows + mean, model.cols
        row += decode(take(varint()), rows)[0] if model.contexts != GLOBAL else 0
        col += decode(take(varint()), cols)[0] if model.contexts == RANK1 else 0
        _check(mixture < len(MIXTURES) and max(mean, row.max()) < CONTEXTS, "an unknown mixture or context")
        _check(min(row.min(), col.min() - COL_MIN) >= 0 and col.max() <= COL_MAX, "a scale out of range")
        model = model._replace(rows=row, cols=col)
    return _decode_stream(take(len(blob) - at), model, bits, mixture)


def _entries(model: Model, bits: int, mixture: int, contexts: Array) -> Array:
    """By context, parity (if there are two) and slot: residual + 128 << 32 | slot - start << 16 | frequency."""
    alphabets = _alphabets(model, bits)
    entries: Array = np.empty((CONTEXTS, len(alphabets), TOTAL), np.int64)
    for parity, alphabet in enumerate(alphabets):
        tables = _tables(model, alphabet, mixture)
        for context in np.unique(contexts):
            starts, frequencies = tables[context, :-1], np.diff(tables[context])
            packed = (alphabet + 128 << 32) - (starts << 16) + frequencies
            entries[context, parity] = np.repeat(packed, frequencies) + (np.arange(TOTAL) << 16)
    return entries.reshape(-1)


def _decode_stream(stream: bytes, model: Model, bits: int, mixture: int) -> Array:
    cols, count, trellis = len(model.cols), len(model.rows) * len(model.cols), model.states > 0
    lanes = min(max(count // 4096, 1), 1024)
    _check(len(stream) >= 4 * lanes and len(stream) % 2 == 0, "it ends too early")
    states: Array = np.frombuffer(stream, "<u4", lanes).astype(np.int64)
    words, at = np.frombuffer(stream, "<u2", offset=4 * lanes).astype(np.int64), 0
    _check(states.min() >= LOW, "a state out of range")
    bases = np.clip(model.rows[:, None] + model.cols, 0, CONTEXTS - 1).reshape(-1)
    entries, values = _entries(model, bits, mixture, bases), np.empty(count, np.int64)
    taken = (model.members[:, None] * model.template).reshape(-1) if model.members.size else NONE
    bases <<= SCALE_BITS + trellis
    if trellis and taken.size:
        bases |= (taken & 1) << SCALE_BITS
    # Under a trellis: the state (times 2^15) before each value, which the value above it decided. So no more values at
    # once than there are columns.
    path, follow = np.zeros((count + cols) * trellis, np.int64), (NEXT[model.states or 4] << SCALE_BITS).reshape(-1)
    for begin in range(0, count, lanes):
        end, first = min(begin + lanes, count), begin
        while first < end:
            last = min(first + cols, end) if trellis else end
            state, base = states[first - begin : last - begin], bases[first:last]
            if trellis:
                base = base ^ (path[first:last] & TOTAL)
            entry = entries[base + (state & TOTAL - 1)]
            value = (entry >> 32) - 128
            if taken.size:
                value = value + taken[first:last]
            values[first:last] = value
            if trellis:
                path[first + cols : last + cols] = follow[path[first:last] >> SCALE_BITS - 1 | value >> 1 & 1]
            state = (entry & 0xFFFF) * (state >> SCALE_BITS) + (entry >> 16 & 0xFFFF)
            empty = np.flatnonzero(state < LOW)
            _check(at + empty.size <= words.size, "it ends too early")
            state[empty] = state[empty] << 16 | words[at : at + empty.size]
            at += empty.size
            states[first - begin : last - begin] = state
            first = last
    _check(at == words.size and (states == LOW).all(), "bytes are left over, or its states do not end where they began")
    _check((values >> bits - 1 == values >> 63).all(), "a value that its bits cannot hold")
    return values.astype(np.int8).reshape(len(model.rows), cols)
