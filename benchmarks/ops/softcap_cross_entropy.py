"""softcap_cross_entropy: the head of the seed on one GPU's share of a step, and on the rows of a scoring batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.ops import peers
from benchmarks.ops.gate import forward_of, step_of, wrong
from benchmarks.ops.registry import Case
from golf_fast.ops import backends, softcap_cross_entropy
from golf_fast.ops.softcap_cross_entropy import reference
from golf_fast.ops.softcap_cross_entropy.cases import CASES

DEVICE = "cuda"
WIDTH, VOCABULARY, SOFTCAP = 512, 1024, 30.0
TRAINING, SCORING, GATE = 98304, 2048, 4096


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    if device_kind != "cuda":
        return ["softcap_cross_entropy: everything, for its kernel needs a GPU"]
    _, missing = _liger()
    lines = [f"softcap_cross_entropy against liger-kernel: {missing}"] if missing else []
    return [*lines, "softcap_cross_entropy against quack: its cross_entropy has no cap"]


def cases(device_kind: str) -> Iterator[Case]:
    """Forward with backward on a step's rows, forward alone on a scoring batch's."""
    if device_kind != "cuda":
        return
    compiled = torch.compile(reference.softcap_cross_entropy, dynamic=False)
    functions = {"eager": reference.softcap_cross_entropy, "compile": compiled, **_liger()[0]}
    for label, rows, backward in (("forward + backward", TRAINING, True), ("forward", SCORING, False)):
        arguments = inputs(rows)

        def make(
            function: Callable[..., torch.Tensor], arguments: list[Any] = arguments, backward: bool = backward
        ) -> Callable[[], object]:
            return step_of(function, arguments, (0, 1)) if backward else forward_of(function, arguments)

        yield Case(
            op="softcap_cross_entropy",
            label=f"{label}, {rows} rows",
            implementation=backends.resolve("softcap_cross_entropy", "cuda").name,
            ours=make(softcap_cross_entropy),
            peers={name: make(function) for name, function in functions.items()},
            gate=lambda: gate(softcap_cross_entropy),
            peer_gates={name: functools.partial(gate, function) for name, function in functions.items()},
            bytes_moved=2 * rows * (VOCABULARY * (5 if backward else 2) + WIDTH),
            flops=(3 if backward else 1) * 2 * rows * WIDTH * VOCABULARY,
        )


def gate(function: Callable[..., torch.Tensor]) -> str | None:
    """None if losses and gradients are right."""
    return wrong(function, reference.softcap_cross_entropy, inputs(GATE), (0, 1), CASES.rms_factor)


def inputs(rows: int) -> list[Any]:
    """x, weight, targets and the cap; logits of size 3."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    x = torch.randn(rows, WIDTH, device=DEVICE, generator=generator).bfloat16()
    weight = (torch.randn(VOCABULARY, WIDTH, device=DEVICE, generator=generator) * 3 * WIDTH**-0.5).bfloat16()
    targets = torch.randint(VOCABULARY, (rows,), device=DEVICE, generator=generator)
    return [x, weight, targets, SOFTCAP]


def _liger() -> tuple[dict[str, Callable[..., torch.Tensor]], str]:
    """Liger's kernel from logits on, behind the same product, by name; or why there is none."""
    liger, missing = peers.optional("liger_kernel.transformers.functional", "liger_cross_entropy")
    if liger is None:
        return {}, missing

    def run(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
        result = liger(x @ weight.T, targets, reduction="none", softcap=softcap)
        losses: torch.Tensor = result[0] if isinstance(result, tuple) else result
        return losses

    return {"liger-kernel": run}, ""
