"""A persistent Triton GEMM that adds the residual and takes the norm's factor in its epilogue.

`out = residual + x @ w.T` is bound by memory where K is small: 3 tensors of `[tokens, D]` for K = D = 512, where the
product alone moves 2 and the pass after it 3. A program takes whole rows, tile by tile, so that the mean square of a
row is complete in its registers.

Saved for the backward: x, w, out and rstd. With `g` the gradient of out plus what that of rstd adds to it,
`-rstd^3 / D * drstd * out`: `dx = g @ w`, `dw = g.T @ x`, and the residual's gradient is `g`. These are traced, so that
the compiler takes the sum into the pass that makes `g`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from golf_fast.ops.gemm import Tiles, halves_of, load_tile, store_tile, tile_view
from golf_fast.ops.launch import Launch
from golf_fast.ops.rms_norm.reference import EPS

OP = "linear_residual"

# architecture -> configurations, largest tile first; a tile of the residual takes the room of a fourth stage
TILES = {
    90: (Tiles(128, 256, 64, 8, 3, True), Tiles(128, 128, 64, 8, 3, True), Tiles(64, 128, 64, 4, 4, True)),
    80: (Tiles(128, 128, 32, 8, 4, False), Tiles(64, 128, 32, 4, 4, False)),
}


def choose_tiles(arch: int, tokens: int, features: int, processors: int) -> Tiles:
    """The largest that gives every multiprocessor two blocks of rows, and is not wider than the result; else the
    smallest."""
    fitting = (t for t in TILES[arch] if t.columns <= max(features, 128) and -(-tokens // t.rows) >= 2 * processors)
    return next(fitting, TILES[arch][-1])


@triton.jit
def linear_residual_kernel(
    x, w, residual, out, rstd, tokens, features, width, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """out `[tokens, features]` and rstd `[tokens]` from x `[tokens, width]`, w `[features, width]` and residual.

    A program takes blocks of `ROWS` rows at a fixed stride, and the tiles of a block one after the other: x comes from
    memory once, w stays in the L2 cache.
    """
    HALF: tl.constexpr = COLUMNS // 2
    program, programs = tl.program_id(0), tl.num_programs(0)
    across = tl.cdiv(features, COLUMNS)
    blocks = tl.cdiv(tl.cdiv(tokens, ROWS) - program, programs)
    squares = tl.zeros((ROWS,), tl.float32)
    for step in tl.range(0, blocks * across, flatten=TMA):
        row = (program + (step // across) * programs) * ROWS
        column = (step % across) * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(0, width, DEPTH):
            left = load_tile(x, row, k, tokens, width, ROWS, DEPTH, TMA)
            right = load_tile(w, column, k, features, width, COLUMNS, DEPTH, TMA)
            total = tl.dot(left, right.T, total, input_precision="ieee")
        halves = halves_of(total, ROWS, HALF)
        squares = tl.where(column == 0, 0.0, squares)
        for i in tl.static_range(2):
            at = column + i * HALF
            added = load_tile(residual, row, at, tokens, features, ROWS, HALF, TMA)
            value = halves[i] + added.to(tl.float32)
            store_tile(out, value, row, at, tokens, features, ROWS, HALF, TMA)
            squares += tl.sum(value * value, 1)
        r = row + tl.arange(0, ROWS)
        last = column + COLUMNS >= features
        tl.store(rstd + r, tl.rsqrt(squares / features + eps), mask=(r < tokens) & last)


def launch(
    x: torch.Tensor,
    w: torch.Tensor,
    residual: torch.Tensor,
    out: torch.Tensor,
    rstd: torch.Tensor,
    tiles: Tiles,
    processors: int,
) -> Launch:
    """The launch that fills out and rstd on as many multiprocessors; shapes as in `linear_residual_kernel`."""
    (tokens, width), features = x.shape, w.shape[0]
    half = tiles.columns // 2
    arguments = {
        "x": tile_view(OP, "x", x, tiles.rows, tiles.depth, tiles.tma),
        "w": tile_view(OP, "w", w, tiles.columns, tiles.depth, tiles.tma),
        "residual": tile_view(OP, "residual", residual, tiles.rows, half, tiles.tma),
        "out": tile_view(OP, "out", out, tiles.rows, half, tiles.tma),
        "rstd": rstd,
        "tokens": tokens,
        "features": features,
        "width": width,
        "eps": EPS,
        "ROWS": tiles.rows,
        "COLUMNS": tiles.columns,
        "DEPTH": tiles.depth,
        "TMA": tiles.tma,
    }
    grid = (min(processors * tiles.programs, triton.cdiv(tokens, tiles.rows)),)
    return Launch(OP, linear_residual_kernel, grid, arguments, tiles.warps, tiles.stages, tiles.registers)
