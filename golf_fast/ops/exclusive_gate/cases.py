"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops.exclusive_gate import exclusive_gate, reference
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample

# (rows, length, heads, kv heads, head dim), with v, with a gate: one token; each without the other; no powers of two,
# so that every mask is used; more positions than one part of a pass, and heads of an odd width.
SHAPES = (
    ((1, 1, 2, 1, 8), True, True),
    ((2, 17, 4, 2, 32), True, False),
    ((1, 9, 4, 4, 64), False, True),
    ((3, 5, 6, 2, 24), True, True),
    ((2, 35, 3, 1, 17), True, True),
)

Arguments = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def random_arguments(
    shape: tuple[int, int, int, int, int],
    exclusive: bool,
    gated: bool,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
) -> Arguments:
    """y, v (a slice of a larger tensor, as the model has it) and gate; heads differ in size."""
    rows, length, heads, kv_heads, head_dim = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    y = (draw(rows, length, heads, head_dim) * draw(heads, 1).exp()).to(device=device, dtype=dtype)
    values = (draw(rows, length, kv_heads + 1, head_dim) * draw(kv_heads + 1, 1).exp()).to(device=device, dtype=dtype)
    gate = draw(rows, length, heads).to(device=device, dtype=dtype)
    return y, values[:, :, 1:] if exclusive else None, gate if gated else None


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for seed, (shape, exclusive, gated) in enumerate(SHAPES):
        arguments = random_arguments(shape, exclusive, gated, device, dtype, seed)
        label = "x".join(map(str, shape)) + " exclusive" * exclusive + " gated" * gated
        made.append(Sample(label, arguments, {}, tuple(i for i, t in enumerate(arguments) if t is not None)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    calls = []
    for shape, exclusive, gated in SHAPES[1:]:
        arguments = random_arguments(shape, exclusive, gated, device, dtype, 0)
        calls.append(OperatorCall("exclusive_gate_backward", (arguments[0].cos(), *arguments)))
        leaves = tuple(None if t is None else t.detach().requires_grad_() for t in arguments)
        calls.append(OperatorCall("exclusive_gate_forward", leaves))
    return calls


def builds() -> list[Build]:
    return list(_builds())


def _builds() -> Iterator[Build]:
    for arch in (90, 80):
        for heads, kv_heads, head_dim in ((8, 4, 64), (8, 8, 64), (6, 2, 96), (16, 2, 128), (4, 4, 256)):
            for exclusive, gated in ((True, True), (True, False), (False, True)):
                yield from _builds_of(arch, heads, kv_heads, head_dim, exclusive, gated)


def _builds_of(arch: int, heads: int, kv_heads: int, head_dim: int, exclusive: bool, gated: bool) -> Iterator[Build]:
    from golf_fast.ops.exclusive_gate import triton

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")

    y, out, d_y, grad = (empty(48, 2048, heads, head_dim) for _ in range(4))
    v = empty(48, 2048, heads + 2 * kv_heads, head_dim)[:, :, heads + kv_heads :] if exclusive else None
    d_v = empty(48, 2048, kv_heads, head_dim) if exclusive else None
    gate, d_gate = (empty(48, 2048, heads) if gated else None for _ in range(2))
    label = f"{heads}/{kv_heads} heads of {head_dim}" + " exclusive" * exclusive + " gated" * gated
    yield Build(f"forward {label}", arch, triton.forward(y, v, gate, out), tensor_cores=False)
    backward = triton.backward(grad, y, v, gate, d_y, d_v, d_gate)
    yield Build(f"backward {label}", arch, backward, tensor_cores=False)


CASES = Cases(exclusive_gate, reference.exclusive_gate, samples, operator_calls, builds)
