"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops.qk_norm_rope import qk_norm_rope, reference
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.rms_norm.reference import EPS

# (rows, length, heads, kv heads, head dim, pairs): one token; the full rotation; a part of it; no powers of two, so
# that every mask is used.
SHAPES = ((1, 1, 1, 1, 8, 4), (2, 17, 4, 2, 32, 16), (1, 33, 6, 3, 64, 8), (3, 5, 3, 1, 24, 5))

Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def random_arguments(
    shape: tuple[int, int, int, int, int, int], device: torch.device, dtype: torch.dtype, seed: int
) -> Arguments:
    """q, k, gain and the tables for `(rows, length, heads, kv heads, head dim, pairs)`; heads differ in size."""
    rows, length, heads, kv_heads, head_dim, pairs = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    q, k = (draw(rows, length, n, head_dim) * draw(n, 1).exp() for n in (heads, kv_heads))
    gain = 1.5 + 0.5 * draw(heads)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), 10000.0 ** -(torch.arange(pairs) / pairs))
    q, k, gain, cos, sin = (t.to(device=device, dtype=dtype) for t in (q, k, gain, angles.cos(), angles.sin()))
    return q, k, gain, cos, sin


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for seed, shape in enumerate(SHAPES):
        label, (q, *others) = "x".join(map(str, shape)), random_arguments(shape, device, dtype, seed)
        made.append(Sample(label, (q, *others), {}, (0, 1, 2)))
        if shape[1] > 1:
            last = shape[1] // 3
            made.append(Sample(f"{label}, the last {last}", (q[:, -last:], *others), {}, (0, 1, 2)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    calls = []
    for shape in SHAPES[1:3]:
        q, k, gain, cos, sin = random_arguments(shape, device, dtype, 0)
        calls.append(OperatorCall("qk_norm_rope_backward", (q.cos(), k.cos(), q, k, gain, cos, sin)))
        leaves = tuple(tensor.clone().requires_grad_() for tensor in (q, k, gain))
        calls.append(OperatorCall("qk_norm_rope_forward", (*leaves, cos, sin)))
    return calls


def builds() -> list[Build]:
    return list(_builds())


def _builds() -> Iterator[Build]:
    for arch in (90, 80):
        for heads, kv_heads, head_dim, pairs in ((8, 4, 64, 32), (4, 2, 128, 64), (8, 4, 64, 8), (6, 2, 96, 48)):
            yield from _builds_of(arch, heads, kv_heads, head_dim, pairs)


def _builds_of(arch: int, heads: int, kv_heads: int, head_dim: int, pairs: int) -> Iterator[Build]:
    from golf_fast.ops.qk_norm_rope import triton

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    q, q_other, d_q = (empty(48, 2048, heads, head_dim) for _ in range(3))
    k, k_other, d_k = (empty(48, 2048, kv_heads, head_dim) for _ in range(3))
    inputs = q, k, empty(heads), empty(2048, pairs), empty(2048, pairs)
    d_gain = empty(triton.programs(q), heads, dtype=torch.float32)
    label = f"{heads}/{kv_heads} heads of {head_dim}, {pairs} pairs"
    forward = triton.forward(*inputs, EPS, q_other, k_other)
    yield Build(f"forward {label}", arch, forward, tensor_cores=False)
    backward = triton.backward(q_other, k_other, *inputs, EPS, d_q, d_k, d_gain)
    yield Build(f"backward {label}", arch, backward, tensor_cores=False)


CASES = Cases(qk_norm_rope, reference.qk_norm_rope, samples, operator_calls, builds)
