"""residual_mix: one GPU's share of a step of the seed where a block of each half begins, against the plain version."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch

from benchmarks.ops.gate import Function, Gate, forward_of, step_of
from benchmarks.ops.registry import Case
from golf_fast.ops import backends, residual_mix
from golf_fast.ops.residual_mix import reference

DEVICE = "cuda"
ROWS, LENGTH, WIDTH = 48, 2048, 512
SECOND = {"first half": False, "second half": True}
"""In the first half the stream goes on to a later block, so it has a gradient; the second half takes up such a skip."""


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    return [] if device_kind == "cuda" else ["residual_mix: everything, for its kernels need a GPU"]


def cases(device_kind: str) -> Iterator[Case]:
    """Forward alone, and forward with backward."""
    if device_kind != "cuda":
        return
    for half, second in SECOND.items():
        yield from _cases(half, second)


def _cases(half: str, second: bool) -> Iterator[Case]:
    arguments = inputs(ROWS, second)
    positions = range(len(arguments))
    ours, plain = used(residual_mix, second), used(reference.residual_mix, second)
    functions: dict[str, Function] = {"eager": plain, "torch.compile": torch.compile(plain, dynamic=False)}
    for backward in (False, True):

        def make(function: Function, backward: bool = backward) -> Callable[[], object]:
            return step_of(function, arguments, positions) if backward else forward_of(function, arguments)

        yield Case(
            op="residual_mix",
            label=f"forward{' + backward' if backward else ''}, {half}",
            implementation=backends.resolve("residual_mix", "cuda").name,
            ours=make(ours),
            peers={name: make(function) for name, function in functions.items()},
            gate=functools.partial(gate, ours, second),
            peer_gates={name: functools.partial(gate, function, second) for name, function in functions.items()},
            bytes_moved=bytes_moved(second, backward),
        )


def used(function: Function, second: bool) -> Function:
    """`function` with what the model uses of its outputs: nothing takes the stream of a block of the second half."""
    return (lambda *arguments: function(*arguments)[1:]) if second else function


def gate(function: Function, second: bool) -> str | None:
    """None if outputs and every gradient of `function`, a result of `used`, are right on one row."""
    return rule(second).wrong(function)


def rule(second: bool) -> Gate:
    """What is right, for any number of functions."""
    arguments = inputs(1, second)
    return Gate(used(reference.residual_mix, second), arguments, range(len(arguments)))


def inputs(rows: int, second: bool) -> list[torch.Tensor]:
    """x, x0, mix, branch and, in the second half, skip and skip_weight, bf16."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=DEVICE, generator=generator)

    stream = (rows, LENGTH, WIDTH)
    made = [draw(*stream), draw(*stream), 0.5 + draw(2, WIDTH) / 4, draw(*stream)]
    if second:
        made += [draw(*stream), 0.7 + draw(WIDTH) / 4]
    return [t.bfloat16() for t in made]


def bytes_moved(second: bool, backward: bool) -> int:
    """Bytes that the kernels read and write: every tensor of the stream, the row factors of the norm, the vectors
    and their gradients.

    Not counted are the parts that the vectors' gradients are summed from: they depend on the GPU, on an H100 they are
    3.2 MB, written and read, of more than 700.
    """
    unit, factors, vectors = 2 * ROWS * LENGTH * WIDTH, 4 * ROWS * LENGTH, 2 * WIDTH * (2 + second)
    # Reads x, x0, branch and perhaps skip; writes stream, mixed and normed.
    forward = (3 + second + 3) * unit + factors + vectors
    # Reads the gradients of mixed and normed, stream, x0, and skip or the gradient of stream; writes those of the
    # stream, of x0 and perhaps of skip. Branch and x share one.
    return forward + (5 + 2 + second) * unit + factors + 2 * vectors if backward else forward
