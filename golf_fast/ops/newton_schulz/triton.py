"""Newton-Schulz iterations whose two symmetric products are one Triton kernel that computes one triangle.

An iteration `A = X X^T`, `B = b A + c A A`, `X <- a X + B X` on `[n, r, c]`, r <= c, takes `2 n r (r c + r r + r c)`
FLOPs; with one triangle of A and of B it takes `2 n r (r c / 2 + r r / 2 + r c)`, a third less for square matrices.
A A = A A^T because A is symmetric, so both are `alpha * S S^T + beta * T`. The sums of B stay in float32 and it is
rounded once. `a X + B X` is cuBLAS's baddbmm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from golf_fast.ops.launch import Launch


@dataclass(frozen=True)
class Tiles:
    """Launch configuration: side of the square output tile, depth of a step, warps, pipeline stages."""

    side: int
    depth: int
    warps: int
    stages: int

    def count(self, size: int) -> int:
        """Tiles in the lower triangle of a `[size, size]` matrix, its diagonal included."""
        across = -(-size // self.side)
        return across * (across + 1) // 2


# architecture -> configurations, largest tile first
TILES = {90: (Tiles(128, 64, 8, 4), Tiles(64, 64, 4, 4)), 80: (Tiles(128, 32, 8, 4), Tiles(64, 64, 4, 4))}


def choose_tiles(arch: int, matrices: int, size: int, programs: int) -> Tiles:
    """The largest tile that still gives every multiprocessor two; else the smallest."""
    choices = TILES[arch]
    return next((tiles for tiles in choices if matrices * tiles.count(size) >= 2 * programs), choices[-1])


@triton.jit
def symmetric_product_kernel(
    x, add, out, size, inner, alpha, beta, SIDE: tl.constexpr, DEPTH: tl.constexpr
):  # fmt: skip
    """out `[n, size, size]` = alpha * x x^T + beta * add for x `[n, size, inner]` and a symmetric add, or None.

    Program (t, matrix) computes the t-th tile of the lower triangle, row by row, and stores it and its mirror image.
    """
    t = tl.program_id(0)
    i = ((tl.sqrt(8.0 * t + 1.0) - 1.0) / 2.0).to(tl.int32)
    i += tl.where((i + 1) * (i + 2) // 2 <= t, 1, 0) - tl.where(i * (i + 1) // 2 > t, 1, 0)  # rounding of the root
    j = t - i * (i + 1) // 2
    matrix = tl.program_id(1).to(tl.int64)
    rows = i * SIDE + tl.arange(0, SIDE)
    columns = j * SIDE + tl.arange(0, SIDE)
    steps = tl.arange(0, DEPTH)
    left = x + matrix * size * inner + rows[:, None] * inner + steps[None, :]
    right = x + matrix * size * inner + columns[:, None] * inner + steps[None, :]
    total = tl.zeros((SIDE, SIDE), tl.float32)
    for k in range(0, inner, DEPTH):
        inside = steps[None, :] < inner - k
        a = tl.load(left + k, mask=inside & (rows < size)[:, None], other=0.0)
        b = tl.load(right + k, mask=inside & (columns < size)[:, None], other=0.0)
        total = tl.dot(a, b.T, total, input_precision="ieee")
    total *= alpha
    here = matrix * size * size + rows[:, None] * size + columns[None, :]
    inside = (rows < size)[:, None] & (columns < size)[None, :]
    if add is not None:
        total += beta * tl.load(add + here, mask=inside, other=0.0).to(tl.float32)
    value = total.to(out.dtype.element_ty)
    tl.store(out + here, value, mask=inside)
    if i != j:
        mirrored = matrix * size * size + columns[:, None] * size + rows[None, :]
        tl.store(out + mirrored, value.T, mask=(columns < size)[:, None] & (rows < size)[None, :])


def product_launch(
    x: torch.Tensor, add: torch.Tensor | None, alpha: float, beta: float, out: torch.Tensor, tiles: Tiles
) -> Launch:
    """The launch that fills out; shapes as in `symmetric_product_kernel`."""
    matrices, size, inner = x.shape
    arguments = {
        "x": x, "add": add, "out": out, "size": size, "inner": inner, "alpha": alpha, "beta": beta,
        "SIDE": tiles.side, "DEPTH": tiles.depth,
    }  # fmt: skip
    grid = (tiles.count(size), matrices)
    return Launch("newton_schulz", symmetric_product_kernel, grid, arguments, tiles.warps, tiles.stages)
