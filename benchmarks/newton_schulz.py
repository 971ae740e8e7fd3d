"""newton_schulz: the banks of the seed, five iterations."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gate import forward_of, wrong
from benchmarks.registry import Case
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
    return ["newton_schulz against torch.optim.Muon: it takes one matrix at a time, so it is no peer"]


def cases(device_kind: str) -> Iterator[Case]:
    """Each bank with the quintic coefficients; the others cost the same."""
    if device_kind != "cuda":
        return
    compiled = torch.compile(_plain, dynamic=False)
    for name, shape in BANKS.items():
        generator = torch.Generator(DEVICE).manual_seed(0)
        bank = torch.randn(shape, device=DEVICE, generator=generator)
        matrices, rows, columns = shape[0], min(shape[1:]), max(shape[1:])

        def gate(bank: torch.Tensor = bank) -> str | None:
            return wrong(_ours, _plain, [bank], [])

        yield Case(
            op="newton_schulz",
            label=f"{name} {'x'.join(map(str, shape))}",
            implementation=backends.resolve("newton_schulz", "cuda").name,
            ours=forward_of(_ours, [bank]),
            peers={"eager": forward_of(_plain, [bank]), "compile": forward_of(compiled, [bank])},
            gate=gate,
            # What the plain version computes, so that the rates compare; ours computes a triangle of two products.
            flops=ITERATIONS * 2 * matrices * rows * (2 * rows * columns + rows * rows),
        )


def _ours(bank: torch.Tensor) -> torch.Tensor:
    return newton_schulz(bank, ITERATIONS, torch.bfloat16)


def _plain(bank: torch.Tensor) -> torch.Tensor:
    dtype = torch.float64 if bank.dtype == torch.float64 else torch.bfloat16
    return reference.newton_schulz(bank, ITERATIONS, dtype)
