"""Triton kernels of the gradients of window attention, over the same tiles as the forward pass.

If queries and keys are the results of norm and rotation, the kernels also compute the gradients of what these took.
"""

import triton
import triton.language as tl

from golf_fast.ops.window_attention.triton import first_visible, key_tiles, last_seeing


@triton.jit
def _before_norm_and_rotation(
    d, rows, factor, cos, sin, positions, inside, eps, LANES: tl.constexpr, HEAD_DIM: tl.constexpr
):
    """From the gradient `d` `[LANES, HEAD_DIM]` of normalised and fully rotated rows that of the rows at `rows`.

    Returns its two halves, and for each row the sum of gradient times normalised row, which is what a gain needs. As
    in `qk_norm_rope`: `factor * rstd * (d - n * mean(d * n))` with `n = row * rstd` and d rotated back.
    """
    HALF: tl.constexpr = HEAD_DIM // 2
    d_first, d_second = tl.split(tl.permute(tl.reshape(d, (LANES, 2, HALF)), (0, 2, 1)))
    dims = tl.arange(0, HALF)[None, :]
    at = positions[:, None] * HALF + dims
    cosine = tl.load(cos + at, mask=inside[:, None], other=0.0).to(tl.float32)
    sine = tl.load(sin + at, mask=inside[:, None], other=0.0).to(tl.float32)
    first = tl.load(rows[:, None] + dims, mask=inside[:, None], other=0.0).to(tl.float32)
    second = tl.load(rows[:, None] + HALF + dims, mask=inside[:, None], other=0.0).to(tl.float32)
    rstd = tl.rsqrt((tl.sum(first * first, 1) + tl.sum(second * second, 1)) / HEAD_DIM + eps)
    first *= rstd[:, None]
    second *= rstd[:, None]
    back_first = d_first * cosine - d_second * sine
    back_second = d_first * sine + d_second * cosine
    product = tl.sum(back_first * first, 1) + tl.sum(back_second * second, 1)
    mean = (product / HEAD_DIM)[:, None]
    scale = (factor * rstd)[:, None]
    return scale * (back_first - first * mean), scale * (back_second - second * mean), product


@triton.jit
def _store_halves(target, first, second, inside, HEAD_DIM: tl.constexpr):
    """Write both halves of rows at `target` `[LANES]`."""
    at = target[:, None] + tl.arange(0, HEAD_DIM // 2)[None, :]
    tl.store(at, first, mask=inside[:, None])
    tl.store(at + HEAD_DIM // 2, second, mask=inside[:, None])


@triton.jit
def _d_query_tile(
    acc, q, grad, k, v, k_row, v_row, key, rows, low, last_row, lse, delta, scale,
    KEYS: tl.constexpr, HEAD_DIM: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One key tile of the gradient of the queries."""
    offsets = tl.arange(0, KEYS)
    dims = tl.arange(0, HEAD_DIM)
    k_tile = k + key.to(tl.int64) * k_row + offsets[:, None] * k_row + dims[None, :]
    v_tile = v + key.to(tl.int64) * v_row + offsets[:, None] * v_row + dims[None, :]
    if MASKED:
        present = (key + offsets <= last_row)[:, None]
        keys = tl.load(k_tile, mask=present, other=0.0)
        values = tl.load(v_tile, mask=present, other=0.0)
    else:
        keys = tl.load(k_tile)
        values = tl.load(v_tile)
    weights = tl.exp2(tl.dot(q, tl.trans(keys)) * scale - lse[:, None])
    if MASKED:
        columns = key + offsets[None, :]
        weights = tl.where((columns >= low[:, None]) & (columns <= rows[:, None]), weights, 0.0)
    d_scores = weights * (tl.dot(grad, tl.trans(values)) - delta[:, None])
    return tl.dot(d_scores.to(keys.dtype), keys, acc)


@triton.jit(do_not_specialize=["length", "window"])
def d_query_kernel(
    q, k, v, out, lse, grad, d_query, delta, bounds, raw, gain, cos, sin, d_gain, length, window, kv_heads, scale,
    softmax_scale, eps,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head, grad_batch, grad_row, grad_head,
    d_query_batch, d_query_row, d_query_head, raw_batch, raw_row, raw_head,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, ROWS: tl.constexpr, HEADS: tl.constexpr, KEYS: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):  # fmt: skip
    """A tile of `d_query` `[B, T, heads, head_dim]`, and of `delta` `[B, heads, T]`, the sum of `out * grad`.

    If `raw` is not None, it holds the queries before norm, rotation and gain, and `d_query` is their gradient; `d_gain`
    `[B, kv_heads * pieces, tiles, HEADS]` then gets this tile's part of that of the gain.
    """
    tiles = tl.cdiv(length, ROWS)
    pieces: tl.constexpr = GROUP // HEADS
    program = tl.program_id(0)
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
    grad += batch * grad_batch + first_row.to(tl.int64) * grad_row
    grads = tl.load(
        grad + ((lanes % ROWS) * grad_row + heads * grad_head)[:, None] + dims[None, :],
        mask=inside[:, None],
        other=0.0,
    )
    k += batch * k_batch + (head // pieces) * k_head
    v += batch * v_batch + (head // pieces) * v_head

    all_heads = kv_heads * GROUP
    at = ((batch * length + rows) * all_heads + heads)[:, None] * HEAD_DIM + dims[None, :]
    per_row = (batch * all_heads + heads) * length + rows
    outs = tl.load(out + at, mask=inside[:, None], other=0.0)
    row_delta = tl.sum(outs.to(tl.float32) * grads.to(tl.float32), 1)
    tl.store(delta + per_row, row_delta, mask=inside)
    row_lse = tl.load(lse + per_row, mask=inside, other=0.0)

    low = first_visible(rows, bounds, length, window, DOCUMENTS)
    first_key, left, inner_end, visits = key_tiles(first_row, last_row, bounds, length, window, KEYS, DOCUMENTS)
    acc = tl.zeros([HEADS * ROWS, HEAD_DIM], tl.float32)
    for i in range(visits - (inner_end - left)):
        key = first_key + tl.where(i < left, i, i + inner_end - left) * KEYS
        acc = _d_query_tile(
            acc, queries, grads, k, v, k_row, v_row, key, rows, low, last_row, row_lse, row_delta, scale,
            KEYS, HEAD_DIM, True,
        )  # fmt: skip
    for i in range(left, inner_end):
        acc = _d_query_tile(
            acc, queries, grads, k, v, k_row, v_row, first_key + i * KEYS, rows, low, last_row, row_lse, row_delta,
            scale, KEYS, HEAD_DIM, False,
        )  # fmt: skip
    acc *= softmax_scale
    target = d_query + batch * d_query_batch + rows.to(tl.int64) * d_query_row + heads * d_query_head
    if raw is None:
        tl.store(target[:, None] + dims[None, :], acc, mask=inside[:, None])
    else:
        source = raw + batch * raw_batch + rows.to(tl.int64) * raw_row + heads * raw_head
        factor = tl.load(gain + heads).to(tl.float32)
        first, second, product = _before_norm_and_rotation(
            acc, source, factor, cos, sin, rows, inside, eps, HEADS * ROWS, HEAD_DIM
        )
        _store_halves(target, first, second, inside, HEAD_DIM)
        parts = tl.sum(tl.reshape(product, (HEADS, ROWS)), 1)
        tl.store(
            d_gain
            + (batch * kv_heads * pieces + head) * tiles * HEADS
            + (first_row // ROWS) * HEADS
            + tl.arange(0, HEADS),
            parts,
        )


@triton.jit
def _turn(i, tiles, pieces: tl.constexpr, HEADS: tl.constexpr):
    """Which tile and first head the iteration `i` takes; with one piece there is nothing to divide."""
    if pieces == 1:
        tile = i
        head = 0
    else:
        tile = i % tiles
        head = (i // tiles) * HEADS
    return tile, head


@triton.jit
def _d_key_value_tile(
    d_keys, d_values, keys, values, q, grad, lse, delta, q_row, q_head, grad_row, grad_head, first_row, columns, high,
    last_row, length, scale,
    HEAD_DIM: tl.constexpr, ROWS: tl.constexpr, HEADS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One tile of queries of the gradients of keys and values; scores are transposed, `[keys, heads * rows]`."""
    lanes = tl.arange(0, HEADS * ROWS)
    dims = tl.arange(0, HEAD_DIM)
    rows = first_row + lanes % ROWS
    heads = lanes // ROWS
    q_tile = q + first_row.to(tl.int64) * q_row + ((lanes % ROWS) * q_row + heads * q_head)[:, None] + dims[None, :]
    grad_tile = grad + first_row.to(tl.int64) * grad_row
    grad_tile = grad_tile + ((lanes % ROWS) * grad_row + heads * grad_head)[:, None] + dims[None, :]
    if MASKED:
        present = rows <= last_row
        queries = tl.load(q_tile, mask=present[:, None], other=0.0)
        grads = tl.load(grad_tile, mask=present[:, None], other=0.0)
        row_lse = tl.load(lse + heads * length + rows, mask=present, other=0.0)
        row_delta = tl.load(delta + heads * length + rows, mask=present, other=0.0)
    else:
        queries = tl.load(q_tile)
        grads = tl.load(grad_tile)
        row_lse = tl.load(lse + heads * length + rows)
        row_delta = tl.load(delta + heads * length + rows)
    weights = tl.exp2(tl.dot(keys, tl.trans(queries)) * scale - row_lse[None, :])
    if MASKED:
        visible = (rows[None, :] >= columns[:, None]) & (rows[None, :] <= high[:, None])
        weights = tl.where(visible, weights, 0.0)
    d_values = tl.dot(weights.to(grads.dtype), grads, d_values)
    d_scores = weights * (tl.dot(values, tl.trans(grads)) - row_delta[None, :])
    d_keys = tl.dot(d_scores.to(queries.dtype), queries, d_keys)
    return d_keys, d_values


@triton.jit(do_not_specialize=["length", "window"])
def d_key_value_kernel(
    q, k, v, lse, grad, delta, d_key, d_value, bounds, raw, cos, sin, length, window, kv_heads, scale, softmax_scale,
    eps,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head, grad_batch, grad_row, grad_head,
    d_key_batch, d_key_row, d_key_head, d_value_batch, d_value_row, d_value_head, raw_batch, raw_row, raw_head,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, ROWS: tl.constexpr, HEADS: tl.constexpr, KEYS: tl.constexpr,
    DOCUMENTS: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """A tile of `d_key` and `d_value` `[B, T, kv_heads, head_dim]`, from all query heads that read it.

    If `raw` is not None, it holds the keys before norm and rotation, and `d_key` is their gradient. With ADD that
    of the values is added to what `d_value` holds.
    """
    tiles = tl.cdiv(length, KEYS)
    program = tl.program_id(0)
    first_key = (program % tiles) * KEYS
    kv_head = (program // tiles) % kv_heads
    batch = (program // tiles // kv_heads).to(tl.int64)
    dims = tl.arange(0, HEAD_DIM)
    columns = first_key + tl.arange(0, KEYS)
    inside = (columns < length)[:, None]
    last_key = tl.minimum(first_key + KEYS, length) - 1

    k += batch * k_batch + kv_head * k_head
    v += batch * v_batch + kv_head * v_head
    keys = tl.load(k + columns[:, None].to(tl.int64) * k_row + dims[None, :], mask=inside, other=0.0)
    values = tl.load(v + columns[:, None].to(tl.int64) * v_row + dims[None, :], mask=inside, other=0.0)
    first_head = kv_head * GROUP
    q += batch * q_batch + first_head * q_head
    grad += batch * grad_batch + first_head * grad_head
    lse += (batch * kv_heads * GROUP + first_head) * length
    delta += (batch * kv_heads * GROUP + first_head) * length

    high = last_seeing(columns, bounds, length, window, DOCUMENTS)
    last_row = last_seeing(last_key, bounds, length, window, DOCUMENTS)
    left = tl.cdiv(last_key - first_key, ROWS)
    inner_end = (last_seeing(first_key, bounds, length, window, DOCUMENTS) + 1 - first_key) // ROWS
    inner_end = tl.maximum(inner_end, left)
    visits = tl.cdiv(last_row + 1 - first_key, ROWS)
    bordering = visits - (inner_end - left)
    d_keys = tl.zeros([KEYS, HEAD_DIM], tl.float32)
    d_values = tl.zeros([KEYS, HEAD_DIM], tl.float32)
    pieces: tl.constexpr = GROUP // HEADS
    for i in range(bordering * pieces):
        tile, piece = _turn(i, bordering, pieces, HEADS)
        row = first_key + tl.where(tile < left, tile, tile + inner_end - left) * ROWS
        d_keys, d_values = _d_key_value_tile(
            d_keys, d_values, keys, values, q + piece * q_head, grad + piece * grad_head, lse + piece * length,
            delta + piece * length, q_row, q_head, grad_row, grad_head, row, columns, high, last_row, length, scale,
            HEAD_DIM, ROWS, HEADS, True,
        )  # fmt: skip
    inner = inner_end - left
    for i in range(inner * pieces):
        tile, piece = _turn(i, inner, pieces, HEADS)
        d_keys, d_values = _d_key_value_tile(
            d_keys, d_values, keys, values, q + piece * q_head, grad + piece * grad_head, lse + piece * length,
            delta + piece * length, q_row, q_head, grad_row, grad_head, first_key + (left + tile) * ROWS, columns,
            high, last_row, length, scale, HEAD_DIM, ROWS, HEADS, False,
        )  # fmt: skip
    row = columns.to(tl.int64)
    d_value += batch * d_value_batch + kv_head * d_value_head
    of_values = d_value + row[:, None] * d_value_row + dims[None, :]
    if ADD:
        d_values += tl.load(of_values, mask=inside, other=0.0).to(tl.float32)
    tl.store(of_values, d_values, mask=inside)
    d_keys *= softmax_scale
    target = d_key + batch * d_key_batch + row * d_key_row + kv_head * d_key_head
    if raw is None:
        tl.store(target[:, None] + dims[None, :], d_keys, mask=inside)
    else:
        source = raw + batch * raw_batch + row * raw_row + kv_head * raw_head
        first, second, _ = _before_norm_and_rotation(
            d_keys, source, 1.0, cos, sin, columns, columns < length, eps, KEYS, HEAD_DIM
        )
        _store_halves(target, first, second, columns < length, HEAD_DIM)
