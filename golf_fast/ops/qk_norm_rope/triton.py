"""Triton kernels of the norm, rotation and gain of queries and keys, and how they are launched.

A program takes a few tokens with all their heads, queries then keys: a row of the rotary tables is read once for them
all, and memory sees each tensor once. Everything is computed in float32 and rounded once, when it is written.

A rotation is `x * cos + partner(x) * sin`: the partner is the other dimension of the pair, the sine is negative for the
second half; dimensions beyond the pairs have cosine 1 and sine 0. Its transpose has the other sign of the sine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from golf_fast.ops.launch import Launch, strides

OP = "qk_norm_rope"


@dataclass(frozen=True)
class Block:
    """Launch parameters: tokens of a program and its warps."""

    tokens: int
    warps: int


def choose_block(heads: int, head_dim: int) -> Block:
    """About 4096 elements of q for four warps: four accesses of 16 bytes for each thread. Nothing was timed."""
    return Block(max(1, 4096 // (triton.next_power_of_2(heads) * triton.next_power_of_2(head_dim))), 4)


@triton.jit
def _rotation(cos, sin, position, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    """Cosine and signed sine for each dimension, `[tokens, 1, WIDTH]` float32, and the partner of each dimension."""
    dim = tl.arange(0, WIDTH)
    at = position[:, None] * PAIRS + (dim % PAIRS)[None, :]
    paired = (dim < 2 * PAIRS)[None, :]
    cosine = tl.load(cos + at, mask=paired, other=1.0).to(tl.float32)
    sine = tl.load(sin + at, mask=paired, other=0.0).to(tl.float32)
    sine = tl.where((dim < PAIRS)[None, :], sine, -sine)
    partner = dim + tl.where(dim < PAIRS, PAIRS, tl.where(dim < 2 * PAIRS, -PAIRS, 0))
    return cosine[:, None, :], sine[:, None, :], partner[None, None, :]


@triton.jit
def _inverse_rms(x, eps, HEAD_DIM: tl.constexpr):
    """`1 / sqrt(mean square + eps)` of each head, `[tokens, heads, 1]`."""
    return tl.rsqrt(tl.sum(x * x, 2) / HEAD_DIM + eps)[:, :, None]


@triton.jit
def _rows(tensor, batch, position, batch_stride, row_stride, head_stride, HEADS: tl.constexpr):
    """Where the heads of each token begin, `[tokens, heads, 1]`."""
    row = batch.to(tl.int64) * batch_stride + position.to(tl.int64) * row_stride
    return tensor + row[:, None, None] + (tl.arange(0, HEADS) * head_stride)[None, :, None]


@triton.jit
def qk_norm_rope_kernel(
    q, k, gain, cos, sin, q_out, k_out, length, tokens, eps,
    q_batch, q_row, q_head, k_batch, k_row, k_head,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PAIRS: tl.constexpr,
    Q_WIDTH: tl.constexpr, K_WIDTH: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """`TOKENS` tokens of `q_out` and `k_out`, `[tokens, heads, head_dim]` contiguous. *_WIDTH are powers of two."""
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    batch, position = token // length, token % length
    cosine, sine, partner = _rotation(cos, sin, position, PAIRS, WIDTH)
    dim = tl.arange(0, WIDTH)[None, None, :]
    here = (token < tokens)[:, None, None] & (dim < HEAD_DIM)

    head = tl.arange(0, Q_WIDTH)[None, :, None]
    mask = here & (head < Q_HEADS)
    source = _rows(q, batch, position, q_batch, q_row, q_head, Q_WIDTH)
    x = tl.load(source + dim, mask=mask, other=0.0).to(tl.float32)
    other = tl.load(source + partner, mask=mask, other=0.0).to(tl.float32)
    factor = tl.load(gain + head, mask=head < Q_HEADS, other=0.0).to(tl.float32) * _inverse_rms(x, eps, HEAD_DIM)
    target = _rows(q_out, batch, position, length * Q_HEADS * HEAD_DIM, Q_HEADS * HEAD_DIM, HEAD_DIM, Q_WIDTH)
    tl.store(target + dim, (x * cosine + other * sine) * factor, mask=mask)

    head = tl.arange(0, K_WIDTH)[None, :, None]
    mask = here & (head < K_HEADS)
    source = _rows(k, batch, position, k_batch, k_row, k_head, K_WIDTH)
    x = tl.load(source + dim, mask=mask, other=0.0).to(tl.float32)
    other = tl.load(source + partner, mask=mask, other=0.0).to(tl.float32)
    target = _rows(k_out, batch, position, length * K_HEADS * HEAD_DIM, K_HEADS * HEAD_DIM, HEAD_DIM, K_WIDTH)
    tl.store(target + dim, (x * cosine + other * sine) * _inverse_rms(x, eps, HEAD_DIM), mask=mask)


@triton.jit
def _gradient(source, grad, dim, partner, mask, cosine, sine, factor, eps, HEAD_DIM: tl.constexpr):
    """The gradient of a normalised and rotated tile, and the sum over each head of gradient times result over factor.

    With `n = x * rstd` and `d` the gradient rotated back, `dx = factor * rstd * (d - n * mean(d * n))`; the sum of
    `d * n` is also what the gain needs.
    """
    x = tl.load(source + dim, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(grad + dim, mask=mask, other=0.0).to(tl.float32)
    d_other = tl.load(grad + partner, mask=mask, other=0.0).to(tl.float32)
    rstd = _inverse_rms(x, eps, HEAD_DIM)
    normed = x * rstd
    d = d * cosine - d_other * sine
    product = tl.sum(d * normed, 2)
    dx = factor * rstd * (d - normed * (product / HEAD_DIM)[:, :, None])
    return dx, product


@triton.jit
def qk_norm_rope_backward_kernel(
    q, k, gain, cos, sin, q_grad, k_grad, d_q, d_k, d_gain, length, tokens, eps,
    q_batch, q_row, q_head, k_batch, k_row, k_head, d_q_batch, d_q_row, d_q_head, d_k_batch, d_k_row, d_k_head,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PAIRS: tl.constexpr,
    Q_WIDTH: tl.constexpr, K_WIDTH: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """`TOKENS` tokens of `d_q` and `d_k`, and their part of the gradient of the gain: `d_gain` `[programs, heads]`.

    `q_grad` and `k_grad` are `[tokens, heads, head_dim]` contiguous.
    """
    program = tl.program_id(0)
    token = program * TOKENS + tl.arange(0, TOKENS)
    batch, position = token // length, token % length
    cosine, sine, partner = _rotation(cos, sin, position, PAIRS, WIDTH)
    dim = tl.arange(0, WIDTH)[None, None, :]
    here = (token < tokens)[:, None, None] & (dim < HEAD_DIM)

    heads = tl.arange(0, Q_WIDTH)
    head = heads[None, :, None]
    mask = here & (head < Q_HEADS)
    factor = tl.load(gain + head, mask=head < Q_HEADS, other=0.0).to(tl.float32)
    source = _rows(q, batch, position, q_batch, q_row, q_head, Q_WIDTH)
    grad = _rows(q_grad, batch, position, length * Q_HEADS * HEAD_DIM, Q_HEADS * HEAD_DIM, HEAD_DIM, Q_WIDTH)
    target = _rows(d_q, batch, position, d_q_batch, d_q_row, d_q_head, Q_WIDTH)
    dx, product = _gradient(source, grad, dim, partner, mask, cosine, sine, factor, eps, HEAD_DIM)
    tl.store(target + dim, dx, mask=mask)
    tl.store(d_gain + program * Q_HEADS + heads, tl.sum(product, 0), mask=heads < Q_HEADS)

    mask = here & (tl.arange(0, K_WIDTH)[None, :, None] < K_HEADS)
    source = _rows(k, batch, position, k_batch, k_row, k_head, K_WIDTH)
    grad = _rows(k_grad, batch, position, length * K_HEADS * HEAD_DIM, K_HEADS * HEAD_DIM, HEAD_DIM, K_WIDTH)
    target = _rows(d_k, batch, position, d_k_batch, d_k_row, d_k_head, K_WIDTH)
    dx, _ = _gradient(source, grad, dim, partner, mask, cosine, sine, 1.0, eps, HEAD_DIM)
    tl.store(target + dim, dx, mask=mask)


def _common(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float, block: Block
) -> dict[str, object]:
    rows, length, heads, head_dim = q.shape
    return {
        "q": q,
        "k": k,
        "gain": gain,
        "cos": cos,
        "sin": sin,
        "length": length,
        "tokens": rows * length,
        "eps": eps,
        **strides(q=q, k=k),
        "Q_HEADS": heads,
        "K_HEADS": k.shape[2],
        "HEAD_DIM": head_dim,
        "PAIRS": cos.shape[1],
        "Q_WIDTH": triton.next_power_of_2(heads),
        "K_WIDTH": triton.next_power_of_2(k.shape[2]),
        "WIDTH": triton.next_power_of_2(head_dim),
        "TOKENS": block.tokens,
    }


def programs(q: torch.Tensor, block: Block | None = None) -> int:
    """The number of programs of a launch, which is the number of rows of its `d_gain`."""
    return -(-q.shape[0] * q.shape[1] // (block or choose_block(*q.shape[2:])).tokens)


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    eps: float,
    q_out: torch.Tensor,
    k_out: torch.Tensor,
    block: Block | None = None,
) -> Launch:
    """The launch that writes `q_out` and `k_out`, contiguous, in the shapes of q and k."""
    block = block or choose_block(*q.shape[2:])
    arguments = _common(q, k, gain, cos, sin, eps, block) | {"q_out": q_out, "k_out": k_out}
    return Launch(OP, qk_norm_rope_kernel, (programs(q, block),), arguments, block.warps, 1)


def backward(
    q_grad: torch.Tensor,
    k_grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    eps: float,
    d_q: torch.Tensor,
    d_k: torch.Tensor,
    d_gain: torch.Tensor,
    block: Block | None = None,
) -> Launch:
    """The launch that writes `d_q`, `d_k` (their last stride is 1) and `d_gain`, `[programs, heads]` float32 parts.

    `d_gain` is still to be summed over the programs.
    """
    block = block or choose_block(*q.shape[2:])
    arguments = _common(q, k, gain, cos, sin, eps, block)
    arguments |= {"q_grad": q_grad, "k_grad": k_grad, "d_q": d_q, "d_k": d_k, "d_gain": d_gain}
    arguments |= strides(d_q=d_q, d_k=d_k)
    return Launch(OP + ".backward", qk_norm_rope_backward_kernel, (programs(q, block),), arguments, block.warps, 1)
