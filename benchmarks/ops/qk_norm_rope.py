"""qk_norm_rope: one GPU's share of a step of the seed in one layer, against the plain version, eager and compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.ops.gate import Gate, backward_of, forward_of
from benchmarks.ops.registry import Case
from golf_fast.ops import backends
from golf_fast.ops.qk_norm_rope import qk_norm_rope, reference

DEVICE = "cuda"
ROWS, LENGTH, HEADS, KV_HEADS, HEAD_DIM = 48, 2048, 8, 4, 64


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    return [] if device_kind == "cuda" else ["qk_norm_rope: everything, for its kernels need a GPU"]


def inputs(rows: int, pairs: int) -> tuple[torch.Tensor, ...]:
    """q, k, gain, cos and sin in bfloat16."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=DEVICE, generator=generator).bfloat16()

    steps = torch.arange(pairs, device=DEVICE) / pairs
    angles = torch.outer(torch.arange(LENGTH, device=DEVICE), 10000.0**-steps)
    leaves = draw(rows, LENGTH, HEADS, HEAD_DIM), draw(rows, LENGTH, KV_HEADS, HEAD_DIM), 1.5 + draw(HEADS) / 10
    return *(t.requires_grad_() for t in leaves), angles.cos().bfloat16(), angles.sin().bfloat16()


def cases(device_kind: str) -> Iterator[Case]:
    """Forward and backward, rotating all dimensions and a quarter of them."""
    if device_kind != "cuda":
        return
    for pairs in (HEAD_DIM // 2, HEAD_DIM // 8):
        yield from _cases(pairs)


def _cases(pairs: int) -> Iterator[Case]:
    arguments = inputs(ROWS, pairs)
    leaves = arguments[:3]
    grads = [torch.randn_like(t) for t in leaves[:2]]
    others: dict[str, Callable[..., Any]] = {
        "eager": reference.qk_norm_rope,
        "torch.compile": torch.compile(reference.qk_norm_rope, dynamic=False),
    }
    moved = 2 * (leaves[0].numel() + leaves[1].numel())

    def made(function: Callable[..., Any], backward: bool) -> Callable[[], object]:
        return backward_of(function, arguments, (0, 1, 2), grads) if backward else forward_of(function, arguments)

    for backward, passes in ((False, 2), (True, 3)):
        yield Case(
            op="qk_norm_rope",
            label=f"{'backward' if backward else 'forward'} 48x2048, {pairs} pairs of {HEAD_DIM // 2}",
            implementation=backends.resolve("qk_norm_rope", "cuda").name,
            ours=made(qk_norm_rope, backward),
            peers={peer: made(function, backward) for peer, function in others.items()},
            gate=lambda: wrong(qk_norm_rope, pairs),
            peer_gates={peer: functools.partial(wrong, function, pairs) for peer, function in others.items()},
            bytes_moved=passes * moved,
        )


def wrong(function: Callable[..., Any], pairs: int) -> str | None:
    """None if outputs and gradients of `function` obey the tolerance rule on one row."""
    return rule(pairs).wrong(function)


def rule(pairs: int) -> Gate:
    """What is right, for any number of functions."""
    return Gate(reference.qk_norm_rope, [t.detach() for t in inputs(1, pairs)], (0, 1, 2))
