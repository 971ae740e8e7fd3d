"""Triton kernels of exclusive self-attention and the gates of the heads, and how they are launched.

They are bound by memory: a program takes a few value heads with the query heads that share them, each tensor is read or
written once, everything is computed in float32 and rounded when it is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from golf_fast.ops.exclusive_gate.reference import SMALLEST
from golf_fast.ops.launch import Launch, strides

OP = "exclusive_gate"


@dataclass(frozen=True)
class Block:
    """Launch parameters: number of value heads (`rows`) and of warps of a program."""

    rows: int
    warps: int


def choose_block(group: int, head_dim: int) -> Block:
    """About 2048 elements of `y` for four warps: two accesses of 16 bytes for each thread. Nothing was timed."""
    return Block(max(1, 2048 // (triton.next_power_of_2(group) * triton.next_power_of_2(head_dim))), 4)


@triton.jit
def _direction(v, row, here, dim, length, smallest, v_batch, v_row, v_head,
               KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr):  # fmt: skip
    """Values `[rows, WIDTH]` over their length, and what they were divided by, `[rows, 1]`."""
    token, head = row // KV_HEADS, row % KV_HEADS
    at = (token // length).to(tl.int64) * v_batch + (token % length).to(tl.int64) * v_row + head * v_head
    mask = here[:, None] & (dim < HEAD_DIM)[None, :]
    value = tl.load(v + at[:, None] + dim[None, :], mask=mask, other=0.0).to(tl.float32)
    size = tl.maximum(tl.sqrt(tl.sum(value * value, 1)), smallest)[:, None]
    return value / size, size


@triton.jit
def exclusive_gate_kernel(
    y, v, gate, out, rows, length, smallest, v_batch, v_row, v_head,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, EXCLUSIVE: tl.constexpr, GATED: tl.constexpr,
    WIDTH: tl.constexpr, HEADS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """`ROWS` value heads with their `GROUP` query heads; `HEADS` and `WIDTH` are powers of two."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = row < rows
    head, dim = tl.arange(0, HEADS), tl.arange(0, WIDTH)
    heads = here[:, None] & (head < GROUP)[None, :]
    mask = heads[:, :, None] & (dim < HEAD_DIM)[None, None, :]
    at_head = row.to(tl.int64)[:, None] * GROUP + head[None, :]
    at = at_head[:, :, None] * HEAD_DIM + dim[None, None, :]
    x = tl.load(y + at, mask=mask, other=0.0).to(tl.float32)
    if EXCLUSIVE:
        n, _ = _direction(v, row, here, dim, length, smallest, v_batch, v_row, v_head, KV_HEADS, HEAD_DIM)
        along = tl.sum(x * n[:, None, :], 2)
        x = x - along[:, :, None] * n[:, None, :]
    if GATED:
        open_by = tl.sigmoid(tl.load(gate + at_head, mask=heads, other=0.0).to(tl.float32))
        x = x * open_by[:, :, None]
    tl.store(out + at, x, mask=mask)


@triton.jit
def exclusive_gate_backward_kernel(
    grad, y, v, gate, d_y, d_v, d_gate, rows, length, smallest, v_batch, v_row, v_head, d_v_batch, d_v_row, d_v_head,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, EXCLUSIVE: tl.constexpr, GATED: tl.constexpr,
    WIDTH: tl.constexpr, HEADS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The gradients of `ROWS` value heads and their query heads, as `y`, `gate` and, strided, v.

    With `d` the gradient of what the gate multiplies and `along` the product of `y` and `n`: `d_y = d - (d . n) n`,
    and of n `-((d . n) y + along d)`, whose part along n is lost where v is divided by its length.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = row < rows
    head, dim = tl.arange(0, HEADS), tl.arange(0, WIDTH)
    heads = here[:, None] & (head < GROUP)[None, :]
    mask = heads[:, :, None] & (dim < HEAD_DIM)[None, None, :]
    at_head = row.to(tl.int64)[:, None] * GROUP + head[None, :]
    at = at_head[:, :, None] * HEAD_DIM + dim[None, None, :]
    x = tl.load(y + at, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
    if EXCLUSIVE:
        n, size = _direction(v, row, here, dim, length, smallest, v_batch, v_row, v_head, KV_HEADS, HEAD_DIM)
        along = tl.sum(x * n[:, None, :], 2)
    if GATED:
        open_by = tl.sigmoid(tl.load(gate + at_head, mask=heads, other=0.0).to(tl.float32))
        left = x - along[:, :, None] * n[:, None, :] if EXCLUSIVE else x
        tl.store(d_gate + at_head, tl.sum(d * left, 2) * open_by * (1 - open_by), mask=heads)
        d = d * open_by[:, :, None]
    if EXCLUSIVE:
        d_along = tl.sum(d * n[:, None, :], 2)
        tl.store(d_y + at, d - d_along[:, :, None] * n[:, None, :], mask=mask)
        d_n = -tl.sum(d_along[:, :, None] * x + along[:, :, None] * d, 1)
        lost = tl.where(size > smallest, tl.sum(d_n * n, 1)[:, None], 0.0)
        token = row // KV_HEADS
        at_value = (token // length).to(tl.int64) * d_v_batch + (token % length).to(tl.int64) * d_v_row
        at_value += (row % KV_HEADS) * d_v_head
        here_too = here[:, None] & (dim < HEAD_DIM)[None, :]
        tl.store(d_v + at_value[:, None] + dim[None, :], (d_n - lost * n) / size, mask=here_too)
    else:
        tl.store(d_y + at, d, mask=mask)


def _common(
    y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None, block: Block | None
) -> tuple[tuple[int], dict[str, object], int]:
    """The grid, the arguments of both kernels, and the warps."""
    batch, length, heads, head_dim = y.shape
    kv_heads = heads if v is None else v.shape[2]
    group = heads // kv_heads
    block = block or choose_block(group, head_dim)
    rows = batch * length * kv_heads
    arguments = {
        "y": y,
        "v": v,
        "gate": gate,
        "rows": rows,
        "length": length,
        "smallest": SMALLEST,
        **({"v_batch": 0, "v_row": 0, "v_head": 0} if v is None else strides(v=v)),
        "KV_HEADS": kv_heads,
        "GROUP": group,
        "HEAD_DIM": head_dim,
        "EXCLUSIVE": v is not None,
        "GATED": gate is not None,
        "WIDTH": triton.next_power_of_2(head_dim),
        "HEADS": triton.next_power_of_2(group),
        "ROWS": block.rows,
    }
    return (-(-rows // block.rows),), arguments, block.warps


def forward(
    y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None, out: torch.Tensor, block: Block | None = None
) -> Launch:
    """The launch that writes `out`, contiguous, in the shape of y."""
    grid, arguments, warps = _common(y, v, gate, block)
    return Launch(OP, exclusive_gate_kernel, grid, arguments | {"out": out}, warps, 1)


def backward(
    grad: torch.Tensor,
    y: torch.Tensor,
    v: torch.Tensor | None,
    gate: torch.Tensor | None,
    d_y: torch.Tensor,
    d_v: torch.Tensor | None,
    d_gate: torch.Tensor | None,
    block: Block | None = None,
) -> Launch:
    """The launch that writes `d_y`, and `d_v` and `d_gate` for what is not None, contiguous but for `d_v`, whose last
    stride is 1."""
    grid, arguments, warps = _common(y, v, gate, block)
    arguments |= {"grad": grad, "d_y": d_y, "d_v": d_v, "d_gate": d_gate}
    arguments |= {"d_v_batch": 0, "d_v_row": 0, "d_v_head": 0} if d_v is None else strides(d_v=d_v)
    return Launch(OP + ".backward", exclusive_gate_backward_kernel, grid, arguments, warps, 1)
