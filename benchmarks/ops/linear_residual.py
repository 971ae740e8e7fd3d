"""linear_residual: the output matrix of attention in one block, one GPU's share of a step of the seed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch

from benchmarks.ops.gate import Function, Gate, forward_of, step_of
from benchmarks.ops.registry import Case
from golf_fast.ops import backends, linear_residual
from golf_fast.ops.linear_residual import reference

DEVICE = "cuda"
TOKENS, WIDTH = 98304, 512
GATE_TOKENS = 34001
"""Enough for the tile that `TOKENS` take, and no multiple of it."""
DIFFERENTIABLE = (0, 1, 2)


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    return [] if device_kind == "cuda" else ["linear_residual: everything, for its kernel needs a GPU"]


def cases(device_kind: str) -> Iterator[Case]:
    """Forward alone, and forward with backward."""
    if device_kind != "cuda":
        return
    arguments = inputs(TOKENS)
    # As in the model: uncompiled, the gradient of the row factor would be passes of its own.
    ours = torch.compile(linear_residual, dynamic=False)
    functions: dict[str, Function] = {
        "eager": reference.linear_residual,
        "torch.compile": torch.compile(reference.linear_residual, dynamic=False),
    }
    for backward in (False, True):

        def make(function: Function, backward: bool = backward) -> Callable[[], object]:
            return step_of(function, arguments, DIFFERENTIABLE) if backward else forward_of(function, arguments)

        yield Case(
            op="linear_residual",
            label=f"output matrix, forward{' + backward' if backward else ''}",
            implementation=backends.resolve("linear_residual", "cuda").name,
            ours=make(ours),
            peers={
                **{name: make(function) for name, function in functions.items()},
                "cublas alone": _products(arguments, backward),
            },
            gate=functools.partial(gate, ours),
            peer_gates={name: functools.partial(gate, function) for name, function in functions.items()},
            bytes_moved=bytes_moved(backward),
            flops=(3 if backward else 1) * 2 * TOKENS * WIDTH * WIDTH,
        )


def gate(function: Function) -> str | None:
    """None if both results and every gradient of `function` are right."""
    return rule().wrong(function)


def rule() -> Gate:
    """What is right, for any number of functions."""
    return Gate(reference.linear_residual, inputs(GATE_TOKENS), DIFFERENTIABLE)


def inputs(tokens: int) -> list[torch.Tensor]:
    """x and residual `[tokens, WIDTH]` and w `[WIDTH, WIDTH]`, bf16, as (x, w, residual)."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def draw(rows: int, scale: float) -> torch.Tensor:
        return (torch.randn(rows, WIDTH, device=DEVICE, generator=generator) * scale).bfloat16()

    return [draw(tokens, 1.0), draw(WIDTH, WIDTH**-0.5), draw(tokens, 1.0)]


def _products(arguments: list[torch.Tensor], backward: bool) -> Callable[[], object]:
    """The same products by cuBLAS with nothing between them."""
    x, w, g = arguments

    def run() -> None:
        with torch.no_grad():
            torch.mm(x, w.T)
            if backward:
                torch.mm(g, w)
                torch.mm(g.T, x)

    return run


def bytes_moved(backward: bool) -> int:
    """Forward: x, w and the residual are read, the sum and the row factors written. Backward: both gradients that come
    in and the sum are read and one gradient is written, for two products that read it; x and w are read again."""
    unit, matrix, factors = 2 * TOKENS * WIDTH, 2 * WIDTH * WIDTH, 4 * TOKENS
    forward = 3 * unit + matrix + factors
    back = (3 * unit + 2 * factors) + (2 * unit + matrix) + (2 * unit + matrix)
    return forward + back if backward else forward
