"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops import passes
from golf_fast.ops.qk_norm_rope.cases import random_arguments
from golf_fast.ops.qkv_attention import qkv_attention, reference
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.rms_norm.reference import EPS
from golf_fast.ops.window_attention.cases import cumulative
from golf_fast.ops.window_attention.reference import document_bounds

# (rows, length, heads, kv heads, head dim, pairs), window, ends of documents: few tokens (at one, the exact gradients
# of gain, queries and keys are 0, and only rounding would be compared); grouped heads over several
# tiles; a group of one with a window and half a rotation; documents; what a head finds beside its own value, gated,
# with a full rotation and a part of one, and each without the other
SHAPES = (
    ((2, 3, 1, 1, 32, 16), None, None, False, False),
    ((2, 65, 4, 2, 32, 16), None, None, False, False),
    ((1, 33, 2, 2, 64, 16), 5, None, False, False),
    ((1, 20, 2, 2, 32, 4), None, (7,), True, False),
    ((1, 40, 4, 2, 32, 4), 9, None, False, True),
    ((2, 33, 4, 2, 32, 16), None, None, True, True),
    ((1, 70, 4, 1, 64, 32), 64, (1, 2, 40), False, False),
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
    for seed, (shape, window, ends, exclusive, gated) in enumerate(SHAPES):
        arguments = packed_arguments(shape, device, dtype, seed)
        gate = gate_logits(shape, device, dtype) if gated else None
        cu_seqlens = None if ends is None else cumulative(ends, shape[1], device)
        label = f"{'x'.join(map(str, shape))} window {window}" + (f" documents {ends}" if ends else "")
        label += " exclusive" * exclusive + " gated" * gated
        keywords = {"cu_seqlens": cu_seqlens, "exclusive": exclusive}
        made.append(Sample(label, (*arguments, window, gate), keywords, (0, 1, 5) if gated else (0, 1)))
    return made


def gate_logits(shape: tuple[int, int, int, int, int, int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """`[B, T, heads]`."""
    return torch.randn(shape[:3], generator=torch.Generator().manual_seed(0)).to(device, dtype)


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    calls = []
    shape = (1, 17, 4, 2, 32, 16)
    for ends, exclusive, gate in (
        (None, False, None),
        ((3, 9), True, gate_logits(shape, device, dtype)),
        (None, True, None),
    ):
        qkv, gain, cos, sin = packed_arguments(shape, device, dtype, 0)
        own = exclusive, gate
        learned = exclusive, None if gate is None else gate.clone().requires_grad_()
        if not passes.obstacle(device.type):
            cu_seqlens = None if ends is None else cumulative(ends, 17, device)
            given = qkv, gain, cos, sin, 6, cu_seqlens, True, *own
            out, *saved = torch.ops.golf_fast.qkv_attention_native_forward(*given)
            back = (out.cos(), qkv, gain, cos, sin, *saved, 6, cu_seqlens, *own)
            calls.append(OperatorCall("qkv_attention_native_backward", back))
            leaves = qkv.clone().requires_grad_(), gain.clone().requires_grad_()
            native = (*leaves, cos, sin, 6, cu_seqlens, True, *learned)
            calls.append(OperatorCall("qkv_attention_native_forward", native))
        bound = gain.abs().max().float() * 32**0.5
        bounds = None if ends is None else document_bounds(cumulative(ends, 17, device), 17)
        out, new_q, new_k, lse, attended = torch.ops.golf_fast.qkv_attention_forward(
            qkv, gain, cos, sin, bound, bounds, 6, *own
        )
        found = attended if exclusive or gate is not None else out
        arguments = (out.cos(), qkv, gain, cos, sin, new_q, new_k, found, lse, bounds, 6, *own)
        calls.append(OperatorCall("qkv_attention_backward", arguments))
        leaves = qkv.clone().requires_grad_(), gain.clone().requires_grad_()
        calls.append(OperatorCall("qkv_attention_forward", (*leaves, cos, sin, bound, bounds, 6, *learned)))
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
    if kv_heads == 4:  # the values have a gradient already; all of a head turns, or a part
        for made_of in (None, origin) if head_dim == 64 else (None,):
            targets = (new_q, new_k) if made_of is None else (d_q, d_k)
            _, adding = launches.backward(
                grad,
                new_q,
                new_k,
                v,
                out,
                lse,
                None,
                length,
                *targets,
                d_v,
                delta,
                tiles=tiles,
                origin=made_of,
                add=True,
            )
            way = "" if made_of is None else "all turned "
            yield Build(f"d_key_value of exclusive attention {way}{label}", arch, adding, tensor_cores=True)
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
