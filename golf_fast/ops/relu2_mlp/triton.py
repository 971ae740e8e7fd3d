"""The squared-ReLU MLP with its activation in the epilogues of two Triton GEMMs; the other products are cuBLAS's.

Forward: `post = act(rstd * (x @ w_up.T))` is written by one persistent GEMM, then `out = post @ w_down.T`.
Backward: `dpre = rstd * act'(pre) * (g @ w_down)` is written by the second, then
`dx = dpre @ w_up`, `dw_up = dpre.T @ x`, `dw_down = g.T @ post`, and `drstd = rowsum(dx * x) / rstd`, which a
compiler can fuse into the backward of the norm before it, as that reads both tensors.
Saved for the backward: the inputs and `post`; with a negative slope also `pre`, because the square loses the sign.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from golf_fast.ops.gemm import Tiles, halves_of, load_tile, store_tile, tile_view
from golf_fast.ops.launch import Launch

OP = "relu2_mlp"

# (kernel, architecture) -> configurations, largest tile first. The backward holds a tile of `post` besides, so it has a
# stage less. Those for 80 fit the 99 KiB of the smaller GPUs of that family.
TILES = {
    ("up", 90): (Tiles(128, 256, 64, 8, 4, True), Tiles(128, 128, 64, 8, 4, True), Tiles(64, 128, 64, 4, 4, True)),
    ("dpre", 90): (Tiles(128, 256, 64, 8, 3, True), Tiles(128, 128, 64, 8, 3, True), Tiles(64, 128, 64, 4, 4, True)),
    ("up", 80): (Tiles(128, 128, 32, 8, 4, False), Tiles(64, 128, 32, 4, 4, False)),
    ("dpre", 80): (Tiles(128, 128, 32, 8, 4, False), Tiles(64, 128, 32, 4, 4, False)),
}


def choose_tiles(kernel: str, arch: int, tokens: int, hidden: int, processors: int) -> Tiles:
    """The largest tile that still gives every multiprocessor two; else the smallest."""
    choices = TILES[kernel, arch]
    return next((tiles for tiles in choices if tiles.count(tokens, hidden) >= 2 * processors), choices[-1])


@triton.jit
def relu2_up_kernel(
    x, w_up, rstd, post, pre, tokens, hidden, width,
    SLOPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """post `[tokens, hidden]` from x `[tokens, width]` and w_up `[hidden, width]`; pre too if it is not None.

    Tiles of one row block are neighbours, so that x comes from memory once; w_up stays in the L2 cache.
    """
    HALF: tl.constexpr = COLUMNS // 2
    across = tl.cdiv(hidden, COLUMNS)
    for tile in tl.range(tl.program_id(0), tl.cdiv(tokens, ROWS) * across, tl.num_programs(0), flatten=TMA):
        row = (tile // across) * ROWS
        column = (tile % across) * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(0, width, DEPTH):
            left = load_tile(x, row, k, tokens, width, ROWS, DEPTH, TMA)
            right = load_tile(w_up, column, k, hidden, width, COLUMNS, DEPTH, TMA)
            total = tl.dot(left, right.T, total, input_precision="ieee")
        if rstd is not None:
            r = row + tl.arange(0, ROWS)
            total *= tl.load(rstd + r, mask=r < tokens, other=0.0)[:, None]
        halves = halves_of(total, ROWS, HALF)
        for i in tl.static_range(2):
            half = halves[i]
            at = column + i * HALF
            if pre is not None:
                store_tile(pre, half, row, at, tokens, hidden, ROWS, HALF, TMA)
            if SLOPE == 0.0:  # the compiler may not drop a product by zero
                active = tl.maximum(half, 0.0, propagate_nan=tl.PropagateNan.ALL)
            else:
                active = tl.maximum(half, SLOPE * half, propagate_nan=tl.PropagateNan.ALL)
            store_tile(post, active * active, row, at, tokens, hidden, ROWS, HALF, TMA)


@triton.jit
def relu2_dpre_kernel(
    g, w_down, saved, rstd, dpre, tokens, hidden, width,
    SLOPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """dpre `[tokens, hidden]` from g `[tokens, width]`, w_down `[width, hidden]` and saved `[tokens, hidden]`.

    `saved` is post without a slope, where act'(pre) = 2 sqrt(post), else pre.
    """
    HALF: tl.constexpr = COLUMNS // 2
    across = tl.cdiv(hidden, COLUMNS)
    for tile in tl.range(tl.program_id(0), tl.cdiv(tokens, ROWS) * across, tl.num_programs(0), flatten=TMA):
        row = (tile // across) * ROWS
        column = (tile % across) * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(0, width, DEPTH):
            left = load_tile(g, row, k, tokens, width, ROWS, DEPTH, TMA)
            right = load_tile(w_down, k, column, width, hidden, DEPTH, COLUMNS, TMA)
            total = tl.dot(left, right, total, input_precision="ieee")
        if rstd is not None:
            r = row + tl.arange(0, ROWS)
            total *= 2.0 * tl.load(rstd + r, mask=r < tokens, other=0.0)[:, None]
        else:
            total *= 2.0
        halves = halves_of(total, ROWS, HALF)
        for i in tl.static_range(2):
            at = column + i * HALF
            kept = load_tile(saved, row, at, tokens, hidden, ROWS, HALF, TMA).to(tl.float32)
            if SLOPE == 0.0:
                change = halves[i] * tl.sqrt(kept)
            else:
                change = halves[i] * kept * tl.where(kept > 0.0, 1.0, SLOPE * SLOPE)
            store_tile(dpre, change, row, at, tokens, hidden, ROWS, HALF, TMA)


def up_launch(
    x: torch.Tensor,
    w_up: torch.Tensor,
    rstd: torch.Tensor | None,
    post: torch.Tensor,
    pre: torch.Tensor | None,
    negative_slope: float,
    tiles: Tiles,
    processors: int,
) -> Launch:
    """The launch that fills post (and pre) on as many multiprocessors; shapes as in `relu2_up_kernel`."""
    (tokens, width), hidden = x.shape, w_up.shape[0]
    half = tiles.columns // 2
    arguments = {
        "x": tile_view(OP, "x", x, tiles.rows, tiles.depth, tiles.tma),
        "w_up": tile_view(OP, "w_up", w_up, tiles.columns, tiles.depth, tiles.tma),
        "rstd": rstd,
        "post": tile_view(OP, "post", post, tiles.rows, half, tiles.tma),
        "pre": None if pre is None else tile_view(OP, "pre", pre, tiles.rows, half, tiles.tma),
        "tokens": tokens,
        "hidden": hidden,
        "width": width,
    }
    return _launch(OP, relu2_up_kernel, arguments, negative_slope, tiles, processors)


def dpre_launch(
    g: torch.Tensor,
    w_down: torch.Tensor,
    saved: torch.Tensor,
    rstd: torch.Tensor | None,
    dpre: torch.Tensor,
    negative_slope: float,
    tiles: Tiles,
    processors: int,
) -> Launch:
    """The launch that fills dpre; shapes as in `relu2_dpre_kernel`."""
    (tokens, width), hidden = g.shape, w_down.shape[1]
    half = tiles.columns // 2
    arguments = {
        "g": tile_view(OP, "g", g, tiles.rows, tiles.depth, tiles.tma),
        "w_down": tile_view(OP, "w_down", w_down, tiles.depth, tiles.columns, tiles.tma),
        "saved": tile_view(OP, "saved", saved, tiles.rows, half, tiles.tma),
        "rstd": rstd,
        "dpre": tile_view(OP, "dpre", dpre, tiles.rows, half, tiles.tma),
        "tokens": tokens,
        "hidden": hidden,
        "width": width,
    }
    return _launch(OP + ".dpre", relu2_dpre_kernel, arguments, negative_slope, tiles, processors)


def _launch(
    op: str, kernel: Any, arguments: dict[str, Any], negative_slope: float, tiles: Tiles, processors: int
) -> Launch:
    grid = (min(processors * tiles.programs, tiles.count(arguments["tokens"], arguments["hidden"])),)
    constants = {
        "SLOPE": negative_slope, "ROWS": tiles.rows, "COLUMNS": tiles.columns, "DEPTH": tiles.depth, "TMA": tiles.tma
    }  # fmt: skip
    return Launch(op, kernel, grid, arguments | constants, tiles.warps, tiles.stages, tiles.registers)
