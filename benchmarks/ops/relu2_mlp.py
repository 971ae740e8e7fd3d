"""relu2_mlp: one GPU's share of a step of the seed in one block, and the rows of a scoring batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch

from benchmarks.ops import peers
from benchmarks.ops.gate import Gate, forward_of, step_of, wrong
from benchmarks.ops.registry import Case
from golf_fast.ops import backends, relu2_mlp
from golf_fast.ops.relu2_mlp import reference

DEVICE = "cuda"
WIDTH, HIDDEN = 512, 1536
TOKENS = {"training": 98304, "scoring": 2048}
GATE_TOKENS = 8192
NO_BACKWARD = "it has no backward for the row factor"


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    if device_kind != "cuda":
        return ["relu2_mlp: everything, for its kernels need a GPU"]
    _, missing = quack(scaled=False)
    return [f"relu2_mlp against quack{'' if missing else ', forward + backward, rstd'}: {missing or NO_BACKWARD}"]


def cases(device_kind: str) -> Iterator[Case]:
    """Forward alone, and forward with backward, without and with the row factor of the norm."""
    if device_kind != "cuda":
        return
    for use, tokens in TOKENS.items():
        for scaled in (False, True):
            yield from _cases(use, tokens, scaled)


def inputs(tokens: int, scaled: bool) -> list[torch.Tensor]:
    """x, w_up, w_down and perhaps rstd, of the sizes that a run has."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def draw(rows: int, columns: int, scale: float) -> torch.Tensor:
        return (torch.randn(rows, columns, device=DEVICE, generator=generator) * scale).bfloat16()

    made = [draw(tokens, WIDTH, 1.0), draw(HIDDEN, WIDTH, WIDTH**-0.5), draw(WIDTH, HIDDEN, HIDDEN**-0.5)]
    return [*made, made[0].float().square().mean(-1).rsqrt()] if scaled else made


def _products(arguments: list[torch.Tensor], backward: bool) -> Callable[[], object]:
    """The same products by cuBLAS with nothing between them: the ceiling of the op."""
    x, w_up, w_down = arguments[:3]
    hidden = torch.randn(x.shape[0], HIDDEN, device=x.device).to(x.dtype)

    def run() -> None:
        torch.mm(x, w_up.T)
        torch.mm(hidden, w_down.T)
        if backward:
            torch.mm(x, w_down)
            torch.mm(hidden, w_up)
            torch.mm(x.T, hidden)
            torch.mm(hidden.T, x)

    def without_gradients() -> None:
        with torch.no_grad():
            run()

    return without_gradients


def quack(scaled: bool) -> tuple[Callable[..., torch.Tensor] | None, str]:
    """quack's MLP (it keeps the tensors on both sides of the activation), with the row factor its products alone."""
    if not scaled:
        mlp, missing = peers.optional("quack.mlp", "mlp_func")
        return mlp and (lambda x, w_up, w_down: mlp(x, w_up, w_down, "relu_sq")), missing
    up, missing = peers.optional("quack.gemm_interface", "gemm_norm_act")
    down, _ = peers.optional("quack.gemm_interface", "gemm")
    if up is None or down is None:
        return None, missing

    def run(x: torch.Tensor, w_up: torch.Tensor, w_down: torch.Tensor, rstd: torch.Tensor) -> torch.Tensor:
        _, hidden = up(x, w_up.T, rstd=rstd, activation="relu_sq")
        out: torch.Tensor = down(hidden, w_down.T)
        return out

    return run, ""


def rule() -> Gate:
    """What is right, for any number of functions."""
    arguments = inputs(GATE_TOKENS, scaled=True)
    return Gate(reference.relu2_mlp, arguments, range(len(arguments)))


def _cases(use: str, tokens: int, scaled: bool) -> Iterator[Case]:
    arguments = inputs(tokens, scaled)
    positions = range(len(arguments))
    compiled = torch.compile(reference.relu2_mlp, dynamic=False)
    # As in the model: uncompiled, the gradient of the row factor would be passes of its own.
    ours = torch.compile(relu2_mlp, dynamic=False) if scaled else relu2_mlp
    flops = 4 * tokens * WIDTH * HIDDEN
    unit = 2 * tokens * WIDTH

    def gate(function: Callable[..., torch.Tensor] = ours, backward: bool = True) -> str | None:
        return wrong(function, reference.relu2_mlp, inputs(GATE_TOKENS, scaled), positions if backward else ())

    for backward in (False, True):
        functions: dict[str, Callable[..., torch.Tensor]] = {"eager": reference.relu2_mlp, "compile": compiled}
        theirs, _ = quack(scaled)
        if theirs is not None and not (scaled and backward):
            functions["quack"] = theirs

        def make(function: Callable[..., torch.Tensor], backward: bool = backward) -> Callable[[], object]:
            return step_of(function, arguments, positions) if backward else forward_of(function, arguments)

        yield Case(
            op="relu2_mlp",
            label=f"{'forward + backward' if backward else 'forward'}, {use}{', rstd' if scaled else ''}",
            implementation=backends.resolve("relu2_mlp", "cuda").name,
            ours=make(ours),
            peers={**{name: make(f) for name, f in functions.items()}, "cublas alone": _products(arguments, backward)},
            gate=gate,
            peer_gates={name: functools.partial(gate, f, backward) for name, f in functions.items()},
            bytes_moved=(27 if backward else 8) * unit,
            flops=(3 if backward else 1) * flops,
        )
