"""qkv_attention and the product before it: one GPU's share of a step of the seed in one block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from benchmarks.ops.gate import Function, Gate, forward_of, step_of
from benchmarks.ops.registry import Case
from golf_fast.ops import backends, qk_norm_rope, qkv_attention, window_attention
from golf_fast.ops.qk_norm_rope.reference import qk_norm_rope as plain_qk_norm_rope
from golf_fast.ops.qkv_attention import reference

DEVICE = "cuda"
ROWS, LENGTH, WIDTH, HEADS, KV_HEADS, HEAD_DIM = 48, 2048, 512, 8, 4, 64
DIFFERENTIABLE = (0, 1, 2)
"""x, w_qkv and gain."""


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    return [] if device_kind == "cuda" else ["qkv_attention: everything, for its kernels need a GPU"]


def cases(device_kind: str) -> Iterator[Case]:
    """Forward alone, and forward with backward."""
    if device_kind != "cuda":
        return
    arguments = inputs(ROWS)
    functions: dict[str, Function] = {
        # Compiled as the trainer compiles the model, so that one pass adds up the three gradients of the stream.
        "three products": torch.compile(three_products, dynamic=False),
        "eager": eager,
        "torch.compile": torch.compile(plain_sdpa, dynamic=False),
    }
    for backward in (False, True):

        def make(function: Function, backward: bool = backward) -> Callable[[], object]:
            return step_of(function, arguments, DIFFERENTIABLE) if backward else forward_of(function, arguments)

        yield Case(
            op="qkv_attention",
            label=f"block forward{' + backward' if backward else ''}",
            implementation=backends.resolve("qkv_attention", "cuda").name,
            ours=make(one_product),
            peers={name: make(function) for name, function in functions.items()},
            gate=lambda: gate(one_product),
            peer_gates={name: functools.partial(gate, function) for name, function in functions.items()},
            bytes_moved=bytes_moved(backward),
            flops=flops(backward),
        )


def gate(function: Function) -> str | None:
    """None if output and gradients of `function` are right on one row."""
    return rule().wrong(function)


def rule() -> Gate:
    """What is right, for any number of functions."""
    return Gate(eager, inputs(1), DIFFERENTIABLE)


def inputs(rows: int) -> list[torch.Tensor]:
    """The normalised stream `[rows, T, D]`, w_qkv `[(heads + 2 * kv_heads) * head_dim, D]`, gain, cos and sin, bf16."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=DEVICE, generator=generator)

    x = F.rms_norm(draw(rows, LENGTH, WIDTH), (WIDTH,))
    w_qkv = draw((HEADS + 2 * KV_HEADS) * HEAD_DIM, WIDTH) * WIDTH**-0.5
    pairs = HEAD_DIM // 2
    angles = torch.outer(torch.arange(LENGTH), 10000.0 ** (-torch.arange(pairs) / pairs)).to(DEVICE)
    return [t.bfloat16() for t in (x, w_qkv, 1.5 + draw(HEADS) / 10, angles.cos(), angles.sin())]


def one_product(
    x: torch.Tensor, w_qkv: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """What the model does: `[B, T, D]` to `[B, T, heads, head_dim]`."""
    return qkv_attention(_heads(F.linear(x, w_qkv)), gain, cos, sin)


def three_products(
    x: torch.Tensor, w_qkv: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """The same by a product and a gradient for each of queries, keys and values, and our two ops."""
    matrices = w_qkv.split([heads * HEAD_DIM for heads in (HEADS, KV_HEADS, KV_HEADS)])
    q, k, v = (_heads(F.linear(x, matrix)) for matrix in matrices)
    q, k = qk_norm_rope(q, k, gain, cos, sin)
    return window_attention(q, k, v, logit_bound=gain.detach().abs().max().float() * HEAD_DIM**0.5)


def eager(
    x: torch.Tensor, w_qkv: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """By the definition of the op: its scores alone take 6.4 GB in float32."""
    return reference.qkv_attention(_heads(F.linear(x, w_qkv)), gain, cos, sin)


def plain_sdpa(
    x: torch.Tensor, w_qkv: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """What PyTorch offers for it; which attention kernel it takes is left to PyTorch."""
    q, k, v = reference.split(_heads(F.linear(x, w_qkv)), HEADS)
    q, k = plain_qk_norm_rope(q, k, gain, cos, sin)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
    )
    return out.transpose(1, 2)


def _heads(product: torch.Tensor) -> torch.Tensor:
    return product.view(*product.shape[:2], -1, HEAD_DIM)


def flops(backward: bool) -> int:
    """Operations of the product and of attention below the diagonal. The backward has two products,
    and five of attention for the two of its forward."""
    project = 2 * ROWS * LENGTH * WIDTH * (HEADS + 2 * KV_HEADS) * HEAD_DIM
    attend = 4 * ROWS * (LENGTH * (LENGTH + 1) // 2) * HEADS * HEAD_DIM
    return 3 * project + 7 * attend // 2 if backward else project + attend


def bytes_moved(backward: bool) -> int:
    """What products and attention must read and write, if norm and rotation are fused into them."""
    stream, attended, qkv = (
        2 * ROWS * LENGTH * size for size in (WIDTH, HEADS * HEAD_DIM, (HEADS + 2 * KV_HEADS) * HEAD_DIM)
    )
    forward = (stream + qkv) + (qkv + attended)
    # Attention reads its inputs, its output and the gradient of that, and writes one packed gradient; then dx and dW.
    return forward + (2 * qkv + 2 * attended) + 2 * (qkv + stream) if backward else forward
