"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops import passes
from golf_fast.ops.qk_norm_rope.cases import random_arguments
from golf_fast.ops.qk_norm_rope.reference import EPS
from golf_fast.ops.qkv_attention import qkv_attention, reference
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.window_attention.cases import cumulative
from golf_fast.ops.window_attention.reference import document_bounds

# (rows, length, heads, kv heads, head dim, pairs), window, ends of documents: few tokens (at one, the exact gradients
# of gain, queries and keys are 0, and only rounding would be compared); grouped heads over several
# tiles; a group of one with a window and half a rotation; documents
SHAPES = (
    ((2, 3, 1, 1, 32, 16), None, None),
    ((2, 65, 4, 2, 32, 16), None, None),
    ((1, 33, 2, 2, 64, 16), 5, None),
    ((1, 70, 4, 1, 64, 32), 64, (1, 2, 40)),
)

Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def packed_arguments(
    shape: tuple[int, int, int, int, int, int], device: torch.device, dtype: torch.dtype, seed: int
) -> Arguments:
    """qkv, gain and the tables for `(rows, length, heads, kv heads, head dim, pairs)`.

    Gains are below 1, or the gradient of the gain would be a small difference of large sums of large logits.
    """
    q, k, gain, cos, sin = random_arguments(shape, device, dtype, seed)
    gain = gain / 4
    v = torch.randn(k.shape, generator=torch.Generator().manual_seed(seed)).to(k)
    return torch.cat((q, k, v), dim=2), gain, cos, sin


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for seed, (shape, window, ends) in enumerate(SHAPES):
        arguments = packed_arguments(shape, device, dtype, seed)
        cu_seqlens = None if ends is None else cumulative(ends, shape[1], device)
        label = f"{'x'.join(map(str, shape))} window {window}" + (f" documents {ends}" if ends else "")
        made.append(Sample(label, (*arguments, window), {"cu_seqlens": cu_seqlens}, (0, 1)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    calls = []
    for ends in (None, (3, 9)):
        qkv, gain, cos, sin = packed_arguments((1, 17, 4, 2, 32, 16), device, dtype, 0)
        if not passes.obstacle(device.type):
            cu_seqlens = None if ends is None else cumulative(ends, 17, device)
            out, *saved = torch.ops.golf_fast.qkv_attention_native_forward(qkv, gain, cos, sin, 6, cu_seqlens, True)
            back = (out.cos(), qkv, gain, cos, sin, *saved, 6, cu_seqlens)
            calls.append(OperatorCall("qkv_attention_native_backward", back))
            leaves = qkv.clone().requires_grad_(), gain.clone().requires_grad_()
            calls.append(OperatorCall("qkv_attention_native_forward", (*leaves, cos, sin, 6, cu_seqlens, True)))
        bound = gain.abs().max().float() * 32**0.5
        bounds = None if ends is None else document_bounds(cumulative(ends, 17, device), 17)
        out, new_q, new_k, lse = torch.ops.golf_fast.qkv_attention_forward(qkv, gain, cos, sin, bound, bounds, 6)
        arguments = (out.cos(), qkv, gain, cos, sin, new_q, new_k, out, lse, bounds, 6)
        calls.append(OperatorCall("qkv_attention_backward", arguments))
        leaves = qkv.clone().requires_grad_(), gain.clone().requires_grad_()
        calls.append(OperatorCall("qkv_attention_forward", (*leaves, cos, sin, bound, bounds, 6)))
    return calls


def builds() -> list[Build]:
    heads = ((64, 8), (64, 4), (64, 2), (128, 8), (128, 4), (128, 2), (32, 4))
    return [build for arch in (90, 80) for head_dim, kv_heads in heads for build in _builds(arch, head_dim, kv_heads)]


def _builds(arch: int, head_dim: int, kv_heads: int) -> Iterator[Build]:
    """The kernels of the two ops with what only this op gives them: strides, and the way back to the product."""
    from golf_fast.ops.qk_norm_rope import triton
    from golf_fast.ops.window_attention import launches

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    rows, length, heads = 48, 2048, 8
    q, k, v = reference.split(empty(rows, length, heads + 2 * kv_heads, head_dim), heads)
    d_q, d_k, d_v = reference.split(empty(rows, length, heads + 2 * kv_heads, head_dim), heads)
    new_q, out, grad = (empty(rows, length, heads, head_dim) for _ in range(3))
    new_k = empty(rows, length, kv_heads, head_dim)
    lse, delta = (empty(rows, heads, length, dtype=torch.float32) for _ in range(2))
    gain, cos, sin = empty(heads), empty(length, head_dim // 2), empty(length, head_dim // 2)
    tiles = launches.choose_tiles(head_dim, heads // kv_heads, arch)
    parts = empty(*launches.origin_parts(q, kv_heads, tiles), dtype=torch.float32)
    origin = launches.Origin(q, k, gain, cos, sin, EPS, parts)
    label = f"head dim {head_dim} group {heads // kv_heads}"
    both = launches.backward(
        grad, new_q, new_k, v, out, lse, None, length, d_q, d_k, d_v, delta, tiles=tiles, origin=origin
    )
    for name, launch in zip(("d_query", "d_key_value"), both, strict=True):
        yield Build(f"{name} {label}", arch, launch, tensor_cores=True)
    if (head_dim, kv_heads) != (64, 4):
        return
    attend = launches.forward(new_q, new_k, v, None, length, empty(dtype=torch.float32), out, lse, tiles)
    yield Build(f"attention {label}", arch, attend, tensor_cores=True)
    yield Build(
        f"norm and rotation {label}", arch, triton.forward(q, k, gain, cos, sin, EPS, new_q, new_k), tensor_cores=False
    )
    parts = empty(triton.programs(q), heads, dtype=torch.float32)
    back = triton.backward(new_q, new_k, q, k, gain, cos[:, :16], sin[:, :16], EPS, d_q, d_k, parts)
    yield Build(f"norm and rotation, backward {label}", arch, back, tensor_cores=False)


CASES = Cases(qkv_attention, reference.qkv_attention, samples, operator_calls, builds)
