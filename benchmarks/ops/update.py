"""update: the momentum of the seed's banks on one GPU, and the factors of a step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.ops.gate import Gate, forward_of
from benchmarks.ops.registry import Case
from golf_fast.ops import backends, nesterov, update_factors
from golf_fast.ops.update import reference

DEVICE = "cuda"
NUMBERS = 20 * 512 * 512 + 20 * 256 * 512 + 20 * 1536 * 512
GATE_NUMBERS = 100_001
NORMS = 20


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    return [] if device_kind == "cuda" else ["update: everything, for its kernels need a GPU"]


def cases(device_kind: str) -> Iterator[Case]:
    """Both launches, with a clip and a flag."""
    if device_kind != "cuda":
        return
    compiled = torch.compile(_plain_momentum, dynamic=False), torch.compile(_plain_factors, dynamic=False)
    momentum: dict[str, Callable[..., Any]] = {"eager": _plain_momentum, "torch.compile": compiled[0]}
    factors: dict[str, Callable[..., Any]] = {"eager": _plain_factors, "torch.compile": compiled[1]}
    of_momentum = Gate(_on_a_copy(_plain_momentum), _numbers(GATE_NUMBERS), ())
    of_factors = Gate(_plain_factors, _norms(), ())
    yield Case(
        op="update",
        label=f"momentum of {NUMBERS:,} numbers",
        implementation=backends.resolve("update", DEVICE).name,
        ours=forward_of(_momentum, _numbers(NUMBERS)),
        peers={peer: forward_of(function, _numbers(NUMBERS)) for peer, function in momentum.items()},
        gate=lambda: of_momentum.wrong(_on_a_copy(_momentum)),
        peer_gates={p: functools.partial(of_momentum.wrong, _on_a_copy(f)) for p, f in momentum.items()},
        bytes_moved=16 * NUMBERS,
    )
    yield Case(
        op="update",
        label=f"factors of {NORMS} norms",
        implementation=backends.resolve("update", DEVICE).name,
        ours=forward_of(_factors, _norms()),
        peers={peer: forward_of(function, _norms()) for peer, function in factors.items()},
        gate=lambda: of_factors.wrong(_factors),
        peer_gates={p: functools.partial(of_factors.wrong, f) for p, f in factors.items()},
        bytes_moved=4 * (NORMS + 5) + 1,
    )


def _numbers(count: int) -> list[torch.Tensor]:
    """Gradient and momentum in float32, a clip and a flag that is not set."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    drawn = [torch.randn(count, device=DEVICE, generator=generator) for _ in range(2)]
    return [*drawn, torch.tensor(0.3, device=DEVICE), torch.zeros((), device=DEVICE)]


def _norms() -> list[torch.Tensor]:
    generator = torch.Generator(DEVICE).manual_seed(0)
    return [torch.rand(NORMS + 1, device=DEVICE, generator=generator), torch.zeros((), device=DEVICE)]


def _on_a_copy(move: Callable[..., torch.Tensor]) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The direction and the momentum, of which the given one is kept."""

    def moved(gradient: torch.Tensor, momentum: torch.Tensor, *factors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        copy = momentum.clone()
        return move(gradient, copy, *factors), copy

    return moved


def _momentum(gradient: torch.Tensor, momentum: torch.Tensor, clip: torch.Tensor, failed: torch.Tensor) -> torch.Tensor:
    return nesterov(gradient, momentum, 0.95, clip, failed)


def _plain_momentum(
    gradient: torch.Tensor, momentum: torch.Tensor, clip: torch.Tensor, failed: torch.Tensor
) -> torch.Tensor:
    return reference.nesterov(gradient, momentum, 0.95, clip, failed)


def _factors(found: torch.Tensor, doubt: torch.Tensor) -> tuple[torch.Tensor, ...]:
    made = update_factors(found, doubt, 0.3, squares=False)
    return made.failed, made.clip


def _plain_factors(found: torch.Tensor, doubt: torch.Tensor) -> tuple[torch.Tensor, ...]:
    made = reference.factors(found, doubt, 0.3, False)
    return made.failed, made.clip
