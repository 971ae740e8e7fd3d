"""exclusive_gate: one slot of one GPU's share of a step, against the plain version, eager and compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.ops.gate import Gate, backward_of, forward_of
from benchmarks.ops.registry import Case
from golf_fast.ops import backends
from golf_fast.ops.exclusive_gate import exclusive_gate, reference

DEVICE = "cuda"
ROWS, LENGTH, HEADS, KV_HEADS, HEAD_DIM = 48, 2048, 8, 4, 64


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    return [] if device_kind == "cuda" else ["exclusive_gate: everything, for its kernels need a GPU"]


def inputs(rows: int) -> tuple[torch.Tensor, ...]:
    """y, v and gate in bfloat16."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=DEVICE, generator=generator).bfloat16().requires_grad_()

    return draw(rows, LENGTH, HEADS, HEAD_DIM), draw(rows, LENGTH, KV_HEADS, HEAD_DIM), draw(rows, LENGTH, HEADS)


def cases(device_kind: str) -> Iterator[Case]:
    """Forward and backward, with values and gates."""
    if device_kind != "cuda":
        return
    arguments = inputs(ROWS)
    grad = torch.randn_like(arguments[0])
    others: dict[str, Callable[..., Any]] = {
        "eager": reference.exclusive_gate,
        "torch.compile": torch.compile(reference.exclusive_gate, dynamic=False),
    }
    y, v, gate = (2 * t.numel() for t in arguments)

    def made(function: Callable[..., Any], backward: bool) -> Callable[[], object]:
        return backward_of(function, arguments, (0, 1, 2), [grad]) if backward else forward_of(function, arguments)

    for backward, moved in ((False, 2 * y + v + gate), (True, 3 * y + 2 * (v + gate))):
        yield Case(
            op="exclusive_gate",
            label=f"{'backward' if backward else 'forward'} 48x2048, {HEADS}/{KV_HEADS} heads of {HEAD_DIM}",
            implementation=backends.resolve("exclusive_gate", "cuda").name,
            ours=made(exclusive_gate, backward),
            peers={peer: made(function, backward) for peer, function in others.items()},
            gate=lambda: wrong(exclusive_gate),
            peer_gates={peer: functools.partial(wrong, function) for peer, function in others.items()},
            bytes_moved=moved,
        )


def wrong(function: Callable[..., Any]) -> str | None:
    """None if outputs and gradients of `function` obey the tolerance rule on one row."""
    return rule().wrong(function)


def rule() -> Gate:
    """What is right, for any number of functions."""
    return Gate(reference.exclusive_gate, [t.detach() for t in inputs(1)], (0, 1, 2))
