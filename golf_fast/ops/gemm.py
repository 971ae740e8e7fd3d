"""Shared parts of the persistent GEMMs of several ops: the launch configuration, and loads and stores of tiles.

On compute capability 9.0 tiles are transferred by TMA through descriptors made on the host, and the accumulator is
stored in two halves, so that half a tile of shared memory suffices for the output and leaves room for a fourth stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from golf_fast.ops.checks import refuse


@dataclass(frozen=True)
class Tiles:
    """Launch configuration of a GEMM.

    Attributes:
        rows: rows of an output tile.
        columns: columns of an output tile.
        depth: size of a step along the reduction dimension.
        warps: warps per program.
        stages: stages of the software pipeline of loads.
        tma: whether tiles are transferred by TMA, else through pointers.
        programs: programs per multiprocessor, so that the epilogue of one overlaps with the products of another.
        registers: limit of registers per thread, if `programs` requires one; None: no limit.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    tma: bool
    programs: int = 1
    registers: int | None = None

    def count(self, tokens: int, features: int) -> int:
        """Number of output tiles of a `[tokens, features]` result."""
        return -(-tokens // self.rows) * -(-features // self.columns)


@triton.jit
def load_tile(source, row, column, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr):
    """Load the tile `[ROWS, COLUMNS]` at (row, column) of a contiguous `[rows, columns]` matrix, padded with zeros."""
    if TMA:
        tile = source.load([row, column])
    else:
        r = row + tl.arange(0, ROWS)
        c = column + tl.arange(0, COLUMNS)
        inside = (r < rows)[:, None] & (c < columns)[None, :]
        tile = tl.load(source + r.to(tl.int64)[:, None] * columns + c[None, :], mask=inside, other=0.0)
    return tile


@triton.jit
def store_tile(target, value, row, column, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr):
    if TMA:
        target.store([row, column], value.to(target.dtype))
    else:
        r = row + tl.arange(0, ROWS)
        c = column + tl.arange(0, COLUMNS)
        inside = (r < rows)[:, None] & (c < columns)[None, :]
        offsets = r.to(tl.int64)[:, None] * columns + c[None, :]
        tl.store(target + offsets, value.to(target.dtype.element_ty), mask=inside)


@triton.jit
def halves_of(tile, ROWS: tl.constexpr, HALF: tl.constexpr):
    """The left and the right half of `[ROWS, 2 * HALF]`."""
    return tl.split(tl.permute(tl.reshape(tile, (ROWS, 2, HALF)), (0, 2, 1)))


def tile_view(op: str, name: str, tensor: torch.Tensor, rows: int, columns: int, tma: bool) -> Any:
    """The kernel argument for `[rows, columns]` tiles of a contiguous matrix: a TMA descriptor, or the tensor."""
    if not tma:
        return tensor
    if tensor.data_ptr() % 16:
        refuse(op, f"{name} is at {tensor.data_ptr():#x}", "16-byte aligned for TMA")
    # A matrix of one row is contiguous with any row stride, but TMA requires a multiple of 16 bytes.
    return TensorDescriptor(tensor, list(tensor.shape), [tensor.shape[1], 1], [rows, columns])
