"""Triton kernels of window attention.

A tile of queries holds `ROWS` consecutive positions of `HEADS` query heads that share a key/value head, so one read
of keys and values serves the whole group, and the border of a narrow window stays short. Each kernel visits only the
tiles that hold a visible pair, the bordering ones with a mask, then the inner ones without.

Documents are bounds for each position (first and last position of its document): a tile may span documents, and no
grid depends on where they start. Positions are relative to a row of the batch; scores are in base 2.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def first_visible(rows, bounds, length, window, DOCUMENTS: tl.constexpr):
    """The first key that each of `rows` sees; it never falls from one row to the next."""
    low = tl.maximum(rows - window + 1, 0)
    if DOCUMENTS:
        low = tl.maximum(low, tl.load(bounds + rows, mask=rows < length, other=0))
    return low


@triton.jit
def last_seeing(keys, bounds, length, window, DOCUMENTS: tl.constexpr):
    """The last row that sees each of `keys`; it never falls from one key to the next."""
    high = tl.minimum(keys + window, length) - 1
    if DOCUMENTS:
        high = tl.minimum(high, tl.load(bounds + length + keys, mask=keys < length, other=0))
    return high


@triton.jit
def key_tiles(first_row, last_row, bounds, length, window, KEYS: tl.constexpr, DOCUMENTS: tl.constexpr):
    """Which key tiles the rows `first_row .. last_row` visit, counted from the first visible key.

    Returns that key, the number of tiles at the left border, the end of the inner tiles, and the number of tiles.
    """
    low = first_visible(first_row, bounds, length, window, DOCUMENTS)
    reach = first_visible(last_row, bounds, length, window, DOCUMENTS) - low
    left = tl.cdiv(reach, KEYS)
    inner_end = tl.maximum((first_row + 1 - low) // KEYS, left)
    return low, left, inner_end, tl.cdiv(last_row + 1 - low, KEYS)


@triton.jit
def _attend_tile(
    state, q, k, v, k_row, v_row, key, rows, low, last_row, scale, bound,
    KEYS: tl.constexpr, HEAD_DIM: tl.constexpr, BOUNDED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One key tile of the forward pass: `state` is the sum of values, the sum of weights and the largest score."""
    acc, total, peak = state
    offsets = tl.arange(0, KEYS)
    dims = tl.arange(0, HEAD_DIM)
    k_tile = k + key.to(tl.int64) * k_row + offsets[:, None] * k_row + dims[None, :]
    v_tile = v + key.to(tl.int64) * v_row + offsets[:, None] * v_row + dims[None, :]
    if MASKED:
        present = (key + offsets <= last_row)[:, None]
        keys_t = tl.trans(tl.load(k_tile, mask=present, other=0.0))
        values = tl.load(v_tile, mask=present, other=0.0)
    else:
        keys_t = tl.trans(tl.load(k_tile))
        values = tl.load(v_tile)
    scores = tl.dot(q, keys_t)
    if MASKED:
        columns = key + offsets[None, :]
        visible = (columns >= low[:, None]) & (columns <= rows[:, None])
        scores = tl.where(visible, scores, float("-inf"))
    if BOUNDED:
        weights = tl.exp2(scores * scale - bound)
    else:
        new_peak = tl.maximum(peak, tl.max(scores, 1) * scale)
        shrink = tl.exp2(peak - new_peak)
        weights = tl.exp2(scores * scale - new_peak[:, None])
        total *= shrink
        acc *= shrink[:, None]
        peak = new_peak
    total += tl.sum(weights, 1)
    acc = tl.dot(weights.to(values.dtype), values, acc)
    return acc, total, peak


@triton.jit
def _attend(
    q, k, v, k_row, v_row, rows, low, last_row, first_key, left, inner_end, visits, scale, bound,
    LANES: tl.constexpr, KEYS: tl.constexpr, HEAD_DIM: tl.constexpr, BOUNDED: tl.constexpr,
):  # fmt: skip
    """All key tiles of a tile of queries: the sum of values, that of weights, and the maximum they are relative to."""
    acc = tl.zeros([LANES, HEAD_DIM], tl.float32)
    total = tl.zeros([LANES], tl.float32)
    # Finite, so that a row without a visible key in its first tile does not meet inf - inf.
    peak = tl.full([LANES], -1.0e30, tl.float32)
    for i in range(visits - (inner_end - left)):
        key = first_key + tl.where(i < left, i, i + inner_end - left) * KEYS
        acc, total, peak = _attend_tile(
            (acc, total, peak), q, k, v, k_row, v_row, key, rows, low, last_row, scale, bound,
            KEYS, HEAD_DIM, BOUNDED, True,
        )  # fmt: skip
    for i in range(left, inner_end):
        acc, total, peak = _attend_tile(
            (acc, total, peak), q, k, v, k_row, v_row, first_key + i * KEYS, rows, low, last_row, scale, bound,
            KEYS, HEAD_DIM, BOUNDED, False,
        )  # fmt: skip
    if BOUNDED:
        peak = tl.zeros([LANES], tl.float32) + bound
    return acc, total, peak


@triton.jit(do_not_specialize=["length", "window"])
def forward_kernel(
    q, k, v, out, lse, bounds, logit_bound, length, window, kv_heads, scale, bound,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, ROWS: tl.constexpr, HEADS: tl.constexpr, KEYS: tl.constexpr,
    BOUNDED: tl.constexpr, ASK: tl.constexpr, DOCUMENTS: tl.constexpr,
):  # fmt: skip
    """A tile of `out` `[B, T, heads, head_dim]` and of `lse` `[B, heads, T]` (base 2, of scaled scores).

    The maximum is `bound` if BOUNDED; with ASK it is what `logit_bound` points to, in nats, where that is small enough.
    """
    tiles = tl.cdiv(length, ROWS)
    pieces: tl.constexpr = GROUP // HEADS
    program = tl.program_id(0)
    # The last positions have the most keys to visit: they start first.
    first_row = (tiles - 1 - program % tiles) * ROWS
    head = (program // tiles) % (kv_heads * pieces)
    batch = (program // tiles // (kv_heads * pieces)).to(tl.int64)
    lanes = tl.arange(0, HEADS * ROWS)
    dims = tl.arange(0, HEAD_DIM)
    rows = first_row + lanes % ROWS
    heads = head * HEADS + lanes // ROWS
    inside = rows < length
    last_row = tl.minimum(first_row + ROWS, length) - 1

    q += batch * q_batch + first_row.to(tl.int64) * q_row
    queries = tl.load(
        q + ((lanes % ROWS) * q_row + heads * q_head)[:, None] + dims[None, :], mask=inside[:, None], other=0.0
    )
    k += batch * k_batch + (head // pieces) * k_head
    v += batch * v_batch + (head // pieces) * v_head

    low = first_visible(rows, bounds, length, window, DOCUMENTS)
    first_key, left, inner_end, visits = key_tiles(first_row, last_row, bounds, length, window, KEYS, DOCUMENTS)
    if ASK:
        asked = tl.load(logit_bound)
        if asked <= 40.0:
            acc, total, peak = _attend(
                queries, k, v, k_row, v_row, rows, low, last_row, first_key, left, inner_end, visits, scale,
                asked * LOG2_E, HEADS * ROWS, KEYS, HEAD_DIM, True,
            )  # fmt: skip
        else:
            acc, total, peak = _attend(
                queries, k, v, k_row, v_row, rows, low, last_row, first_key, left, inner_end, visits, scale, bound,
                HEADS * ROWS, KEYS, HEAD_DIM, False,
            )  # fmt: skip
    else:
        acc, total, peak = _attend(
            queries, k, v, k_row, v_row, rows, low, last_row, first_key, left, inner_end, visits, scale, bound,
            HEADS * ROWS, KEYS, HEAD_DIM, BOUNDED,
        )  # fmt: skip

    total = tl.where(inside, total, 1.0)
    all_heads = kv_heads * GROUP
    at = (batch * length + rows) * all_heads + heads
    tl.store(out + at[:, None] * HEAD_DIM + dims[None, :], acc / total[:, None], mask=inside[:, None])
    tl.store(lse + (batch * all_heads + heads) * length + rows, peak + tl.log2(total), mask=inside)
