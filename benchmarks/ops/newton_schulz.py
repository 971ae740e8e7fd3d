"""newton_schulz: the banks of the seed, five iterations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch

from benchmarks.ops import peers
from benchmarks.ops.gate import forward_of, wrong
from benchmarks.ops.registry import Case
from golf_fast.ops import backends, newton_schulz
from golf_fast.ops.newton_schulz import reference

DEVICE = "cuda"
BANKS = {
    "queries and outputs": (20, 512, 512),
    "keys and values": (20, 256, 512),
    "MLP up": (10, 1536, 512),
    "MLP down": (10, 512, 1536),
}
ITERATIONS = 5


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    if device_kind != "cuda":
        return ["newton_schulz: everything, for its kernels need a GPU"]
    _, missing = quack()
    lines = ["newton_schulz against torch.optim.Muon: it takes one matrix at a time, so it is no peer"]
    return [*lines, f"newton_schulz against quack: {missing}"] if missing else lines


def cases(device_kind: str) -> Iterator[Case]:
    """Each bank with the quintic coefficients; the others cost the same."""
    if device_kind != "cuda":
        return
    compiled = torch.compile(_plain, dynamic=False)
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"eager": _plain, "compile": compiled}
    theirs, _ = quack()
    if theirs is not None:
        functions["quack"] = theirs
    for name, shape in BANKS.items():
        generator = torch.Generator(DEVICE).manual_seed(0)
        bank = torch.randn(shape, device=DEVICE, generator=generator)
        matrices, rows, columns = shape[0], min(shape[1:]), max(shape[1:])

        def gate(function: Callable[..., torch.Tensor] = _ours, bank: torch.Tensor = bank) -> str | None:
            return wrong(function, _plain, [bank], [])

        yield Case(
            op="newton_schulz",
            label=f"{name} {'x'.join(map(str, shape))}",
            implementation=backends.resolve("newton_schulz", "cuda").name,
            ours=forward_of(_ours, [bank]),
            peers={peer: forward_of(function, [bank]) for peer, function in functions.items()},
            gate=gate,
            peer_gates={peer: functools.partial(gate, function) for peer, function in functions.items()},
            # What the plain version computes, so that the rates compare; ours computes a triangle of two products.
            flops=ITERATIONS * 2 * matrices * rows * (2 * rows * columns + rows * rows),
        )


def quack() -> tuple[Callable[[torch.Tensor], torch.Tensor] | None, str]:
    """The same iterations by quack's symmetric products, or why there are none."""
    symmetric, missing = peers.optional("quack.gemm_interface", "gemm_symmetric")
    add, _ = peers.optional("quack.gemm_interface", "gemm_add")
    if symmetric is None or add is None:
        return None, missing

    def run(bank: torch.Tensor) -> torch.Tensor:
        x = bank.bfloat16()
        x = x / reference.divisor(x.norm(dim=(-2, -1), keepdim=True), "quintic")
        tall = bank.shape[-2] > bank.shape[-1]
        x = x.mT.contiguous() if tall else x
        for a, b, c in reference.schedule("quintic", ITERATIONS):
            gram = symmetric(x, x.mT)
            x = add(symmetric(gram, gram.mT, C=gram, alpha=c, beta=b), x, C=x, beta=a)
        return x.mT if tall else x

    return run, ""


def _ours(bank: torch.Tensor) -> torch.Tensor:
    return newton_schulz(bank, ITERATIONS, torch.bfloat16)


def _plain(bank: torch.Tensor) -> torch.Tensor:
    dtype = torch.float64 if bank.dtype == torch.float64 else torch.bfloat16
    return reference.newton_schulz(bank, ITERATIONS, dtype)
