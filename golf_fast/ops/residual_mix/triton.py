"""Triton kernels of the beginning of a block, and how they are launched.

They are bound by memory: each tensor is read or written once, everything is computed in float32 and rounded when it is
written. The norm is a sum over a row, the gradients of `mix` and `skip_weight` are sums over all rows; the compiler
does not take both in one pass when the second need the first. Here a program of the backward walks over rows and keeps
its share of the second kind in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from golf_fast.ops.launch import Launch, multiprocessors

OP = "residual_mix"


@dataclass(frozen=True)
class Block:
    """Launch parameters.

    Attributes:
        rows: rows that a program holds in registers at once.
        warps: warps of a program.
        programs: programs that share a multiprocessor, for the backward; None for the forward.
    """

    rows: int
    warps: int
    programs: int | None = None

    @property
    def registers(self) -> int:
        """The compiler's limit on the registers of a thread, so that `programs` fit a multiprocessor; a multiple of 8.

        The forward has one because without it the compiler may spill to make room for one more program.
        """
        return min(255, 65536 // (256 * self.warps * self.programs) * 8) if self.programs else 128


def choose_block(width: int, backward: bool) -> Block:
    """Forward: up to four accesses of 16 bytes a thread and tensor. Backward: one, for the sums take registers too, and
    16 warps on a multiprocessor leave each thread 128.

    Nothing was timed.
    """
    padded = triton.next_power_of_2(width)
    warps = max(4, padded // 256)  # a wider row takes more warps, not more registers a thread
    if backward:
        return Block(max(1, 1024 // padded), warps, 16 // warps)
    return Block(max(1, 4096 // padded), warps)


@triton.jit
def residual_mix_kernel(
    x, branch, skip, skip_weight, x0, mix, summed, mixed, normed, rstd, rows, eps,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, HAS_BRANCH: tl.constexpr, HAS_SKIP: tl.constexpr,
):  # fmt: skip
    """`ROWS` rows `[DIM]` of `mixed` and `normed`, their `rstd`, and of the stream, `summed`, unless it is x itself."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = column < DIM
    mask = (row < rows)[:, None] & inside[None, :]
    at = row.to(tl.int64)[:, None] * DIM + column[None, :]

    # All that is read comes before what is written, for the compiler moves no load over a store.
    share = tl.load(mix + column, mask=inside, other=0.0).to(tl.float32)
    share0 = tl.load(mix + DIM + column, mask=inside, other=0.0).to(tl.float32)
    z = tl.load(x0 + at, mask=mask, other=0.0).to(tl.float32)
    s = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    if HAS_BRANCH:
        s += tl.load(branch + at, mask=mask, other=0.0).to(tl.float32)
    if HAS_SKIP:
        weight = tl.load(skip_weight + column, mask=inside, other=0.0).to(tl.float32)
        s += weight[None, :] * tl.load(skip + at, mask=mask, other=0.0).to(tl.float32)
    if HAS_BRANCH or HAS_SKIP:
        tl.store(summed + at, s, mask=mask)
    # The float32 values are used, not the rounded ones: a value that is needed in both forms would be converted by
    # itself, at a quarter of the rate of conversion in pairs.
    m = share[None, :] * s + share0[None, :] * z
    tl.store(mixed + at, m, mask=mask)
    factor = tl.rsqrt(tl.sum(m * m, 1) / DIM + eps)
    tl.store(rstd + row, factor, mask=row < rows)
    tl.store(normed + at, m * factor[:, None], mask=mask)


@triton.jit
def residual_mix_backward_kernel(
    d_mixed, d_normed, d_out, summed, skip, skip_weight, x0, mix, rstd, d_stream, d_x0, d_skip, d_channels, rows,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, HAS_OUT: tl.constexpr, HAS_SKIP: tl.constexpr,
):  # fmt: skip
    """Gradients of what the forward reads, from those of mixed, normed and (`d_out`) stream.

    A program takes blocks of `ROWS` rows at a fixed stride. Its sums over them are its part of `d_channels`
    `[programs, 2 or 3, DIM]` float32: of mix[0], of mix[1], of skip_weight.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, WIDTH)
    inside = column < DIM
    share = tl.load(mix + column, mask=inside, other=0.0).to(tl.float32)[None, :]
    share0 = tl.load(mix + DIM + column, mask=inside, other=0.0).to(tl.float32)[None, :]
    of_share = tl.zeros([ROWS, WIDTH], tl.float32)
    of_share0 = tl.zeros([ROWS, WIDTH], tl.float32)
    if HAS_SKIP:
        weight = tl.load(skip_weight + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        of_weight = tl.zeros([ROWS, WIDTH], tl.float32)

    for first in range(program * ROWS, rows, programs * ROWS):
        row = first + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row.to(tl.int64)[:, None] * DIM + column[None, :]
        s = tl.load(summed + at, mask=mask, other=0.0).to(tl.float32)
        z = tl.load(x0 + at, mask=mask, other=0.0).to(tl.float32)
        g = tl.load(d_normed + at, mask=mask, other=0.0).to(tl.float32)
        direct = tl.load(d_mixed + at, mask=mask, other=0.0).to(tl.float32)
        if HAS_OUT:
            from_out = tl.load(d_out + at, mask=mask, other=0.0).to(tl.float32)
        if HAS_SKIP:
            y = tl.load(skip + at, mask=mask, other=0.0).to(tl.float32)
        factor = tl.load(rstd + row, mask=row < rows, other=0.0)[:, None]
        n = (share * s + share0 * z) * factor
        d = direct + factor * (g - n * (tl.sum(g * n, 1) / DIM)[:, None])
        of_share += d * s
        of_share0 += d * z
        tl.store(d_x0 + at, share0 * d, mask=mask)
        d = share * d
        if HAS_OUT:
            d += from_out
        tl.store(d_stream + at, d, mask=mask)
        if HAS_SKIP:
            of_weight += d * y
            tl.store(d_skip + at, weight * d, mask=mask)

    part = d_channels + program * (3 * DIM if HAS_SKIP else 2 * DIM) + column
    tl.store(part, tl.sum(of_share, 0), mask=inside)
    tl.store(part + DIM, tl.sum(of_share0, 0), mask=inside)
    if HAS_SKIP:
        tl.store(part + 2 * DIM, tl.sum(of_weight, 0), mask=inside)


def programs(x: torch.Tensor, block: Block | None = None, processors: int | None = None) -> int:
    """The number of programs of the backward on the device of `x` `[..., D]`: the first size of its `d_channels`."""
    block = block or choose_block(x.shape[-1], backward=True)
    assert block.programs is not None
    blocks = triton.cdiv(x.numel() // x.shape[-1], block.rows)
    return int(min(blocks, block.programs * (processors or multiprocessors(x.device))))


def forward(
    x: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    branch: torch.Tensor | None,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
    eps: float,
    stream: torch.Tensor | None,
    mixed: torch.Tensor,
    normed: torch.Tensor,
    rstd: torch.Tensor,
    block: Block | None = None,
) -> Launch:
    """The launch that writes `mixed`, `normed`, `rstd` and, unless None, `stream`. All tensors are contiguous."""
    block = block or choose_block(x.shape[-1], backward=False)
    rows = x.numel() // x.shape[-1]
    arguments = {
        "x": x,
        "branch": branch,
        "skip": skip,
        "skip_weight": skip_weight,
        "x0": x0,
        "mix": mix,
        "summed": stream,
        "mixed": mixed,
        "normed": normed,
        "rstd": rstd,
        "rows": rows,
        "eps": eps,
        **_sizes(x, block),
        "HAS_BRANCH": branch is not None,
        "HAS_SKIP": skip is not None,
    }
    grid = (triton.cdiv(rows, block.rows),)
    return Launch(OP, residual_mix_kernel, grid, arguments, block.warps, 1, block.registers)


def backward(
    d_mixed: torch.Tensor,
    d_normed: torch.Tensor,
    d_out: torch.Tensor | None,
    stream: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    rstd: torch.Tensor,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
    d_stream: torch.Tensor,
    d_x0: torch.Tensor,
    d_skip: torch.Tensor | None,
    d_channels: torch.Tensor,
    block: Block | None = None,
) -> Launch:
    """The launch that writes `d_stream`, `d_x0`, with a skip `d_skip`, and `d_channels`, still to be summed over its
    first dimension, which has one place for each program. All tensors are contiguous."""
    block = block or choose_block(stream.shape[-1], backward=True)
    arguments = {
        "d_mixed": d_mixed,
        "d_normed": d_normed,
        "d_out": d_out,
        "summed": stream,
        "skip": skip,
        "skip_weight": skip_weight,
        "x0": x0,
        "mix": mix,
        "rstd": rstd,
        "d_stream": d_stream,
        "d_x0": d_x0,
        "d_skip": d_skip,
        "d_channels": d_channels,
        "rows": stream.numel() // stream.shape[-1],
        **_sizes(stream, block),
        "HAS_OUT": d_out is not None,
        "HAS_SKIP": skip is not None,
    }
    grid = (d_channels.shape[0],)
    return Launch(OP + ".backward", residual_mix_backward_kernel, grid, arguments, block.warps, 1, block.registers)


def _sizes(x: torch.Tensor, block: Block) -> dict[str, int]:
    return {"DIM": x.shape[-1], "WIDTH": triton.next_power_of_2(x.shape[-1]), "ROWS": block.rows}
