"""Attention of packed projections as operators of torch.library, so that torch.compile keeps them whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops.qkv_attention.reference import split
from golf_fast.ops.rms_norm.reference import EPS


@torch.library.custom_op("golf_fast::qkv_attention_forward", mutates_args=())
def forward(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    logit_bound: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`out` `[B, T, heads, head_dim]`; for the backward the new q and k, the base-2 log-sum-exp `[B, heads, T]`, and
    what attention found, as `out`, where that goes through `exclusive_gate`, else of no elements.

    `logit_bound` is a float32 scalar on the device; `bounds` and `window` as in `window_attention.launches.forward`.
    """
    from golf_fast.ops.exclusive_gate import triton as exclusive_gate
    from golf_fast.ops.qk_norm_rope import triton
    from golf_fast.ops.window_attention import launches

    heads = gain.shape[0]
    q, k, v = split(qkv, heads)
    through_gate = exclusive or gate is not None
    new_q, new_k, out = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, q))
    lse = torch.empty((q.shape[0], heads, q.shape[1]), dtype=torch.float32, device=q.device)
    attended = out.new_empty(out.shape if through_gate else (0,))
    if qkv.numel():
        triton.forward(q, k, gain, cos, sin, EPS, new_q, new_k)()
        launches.forward(new_q, new_k, v, bounds, window, logit_bound, attended if through_gate else out, lse)()
        if through_gate:
            exclusive_gate.forward(attended, v if exclusive else None, gate, out)()
    return out, new_q, new_k, lse, attended


@forward.register_fake
def _(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    logit_bound: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    q, k, _ = split(qkv, gain.shape[0])
    lse = qkv.new_empty((q.shape[0], q.shape[2], q.shape[1]), dtype=torch.float32)
    attended = q.new_empty(q.shape if exclusive or gate is not None else (0,))
    return q.new_empty(q.shape), q.new_empty(q.shape), k.new_empty(k.shape), lse, attended


@torch.library.custom_op("golf_fast::qkv_attention_backward", mutates_args=())
def backward(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    new_q: torch.Tensor,
    new_k: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `qkv`, `gain` and `gate` (of no elements without one) from that of what `forward` returned.

    `out` is what attention found. What the values give to `exclusive_gate` is written to their gradient first, and
    attention's is added to it in its kernel: nothing else reads or writes the packed gradient.
    """
    from golf_fast.ops.exclusive_gate import triton as exclusive_gate
    from golf_fast.ops.qk_norm_rope import triton
    from golf_fast.ops.window_attention import launches

    heads = gain.shape[0]
    q, k, v = split(qkv, heads)
    d_qkv, d_gate = torch.empty_like(qkv), grad.new_empty((0,) if gate is None else gate.shape)
    d_q, d_k, d_v = split(d_qkv, heads)
    if not qkv.numel():
        return d_qkv, torch.zeros_like(gain), d_gate
    # The gradient of a sum or a mean is one number with strides of zero.
    grad = grad.contiguous()
    if exclusive or gate is not None:
        d_out, (values, of_values) = torch.empty_like(out), (v, d_v) if exclusive else (None, None)
        of_gate = None if gate is None else d_gate
        exclusive_gate.backward(grad, out, values, gate, d_out, of_values, of_gate)()
        grad = d_out
    delta = torch.empty_like(lse)
    if cos.shape[1] * 2 == qkv.shape[3]:
        parts = torch.empty(launches.origin_parts(q, k.shape[2]), dtype=torch.float32, device=qkv.device)
        origin = launches.Origin(q, k, gain, cos, sin, EPS, parts)
        for launch in launches.backward(
            grad, new_q, new_k, v, out, lse, bounds, window, d_q, d_k, d_v, delta, origin=origin, add=exclusive
        ):
            launch()
        return d_qkv, parts.sum((0, 2)).flatten().to(gain.dtype), d_gate
    # Where a part of the dimensions turns, norm and rotation are taken back by their own kernel.
    d_new_q, d_new_k = torch.empty_like(new_q), torch.empty_like(new_k)
    parts = torch.empty((triton.programs(q), heads), dtype=torch.float32, device=qkv.device)
    of_attention = launches.backward(
        grad, new_q, new_k, v, out, lse, bounds, window, d_new_q, d_new_k, d_v, delta, add=exclusive
    )
    for launch in (*of_attention, triton.backward(d_new_q, d_new_k, q, k, gain, cos, sin, EPS, d_q, d_k, parts)):
        launch()
    return d_qkv, parts.sum(0).to(gain.dtype), d_gate


@backward.register_fake
def _(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    new_q: torch.Tensor,
    new_k: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    d_gate = grad.new_empty((0,) if gate is None else gate.shape)
    return qkv.new_empty(qkv.shape), gain.new_empty(gain.shape), d_gate


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    qkv, gain, cos, sin, _, bounds, ctx.window, ctx.exclusive, gate = inputs
    out, new_q, new_k, lse, attended = output
    ctx.mark_non_differentiable(new_q, new_k, lse, attended)
    ctx.set_materialize_grads(False)
    found = attended if ctx.exclusive or gate is not None else out
    ctx.save_for_backward(qkv, gain, cos, sin, new_q, new_k, found, lse, bounds, gate)


def _backward(ctx: Any, grad: torch.Tensor | None, *_auxiliary: None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 9
    *saved, gate = ctx.saved_tensors
    d_qkv, d_gain, d_gate = backward(grad, *saved, ctx.window, ctx.exclusive, gate)
    return d_qkv, d_gain, None, None, None, None, None, None, None if gate is None else d_gate


forward.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op("golf_fast::qkv_attention_native_forward", mutates_args=())
def native_forward(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    gradient: bool,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `window_attention.operators.native_forward` for the new q and k, and v, and `attended` as in `forward`."""
    from golf_fast.ops.exclusive_gate import native as exclusive_gate
    from golf_fast.ops.qkv_attention import native

    attended, *saved = native.forward(qkv, gain, cos, sin, window, cu_seqlens, gradient)
    new_q, new_k, new_v, shares = saved
    if not exclusive and gate is None:
        return attended, new_q, new_k, new_v, shares, attended.new_empty(0)
    out = torch.empty_like(attended)
    if qkv.numel():
        exclusive_gate.forward(attended, split(qkv, gain.shape[0])[2] if exclusive else None, gate, out)
    return out, new_q, new_k, new_v, shares, attended


@native_forward.register_fake
def _(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    gradient: bool,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    from golf_fast.ops.window_attention import native

    q, k, v = split(qkv, gain.shape[0])
    attended = q.new_empty(q.shape if exclusive or gate is not None else (0,))
    return q.new_empty(q.shape), *native.like_saved(q, k, v, cu_seqlens, gradient), attended


@torch.library.custom_op("golf_fast::qkv_attention_native_backward", mutates_args=())
def native_backward(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    new_q: torch.Tensor,
    new_k: torch.Tensor,
    new_v: torch.Tensor,
    shares: torch.Tensor,
    attended: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `qkv`, `gain` and `gate` (of no elements without one) from that of `out`."""
    from golf_fast.ops.exclusive_gate import native as exclusive_gate
    from golf_fast.ops.qkv_attention import native

    d_gate, v = grad.new_empty((0,) if gate is None else gate.shape), split(qkv, gain.shape[0])[2]
    of_values = v.new_empty(v.shape if exclusive else (0,))
    if (exclusive or gate is not None) and qkv.numel():
        d_out, of_gate = torch.empty_like(attended), None if gate is None else d_gate
        given = grad.contiguous(), attended, v if exclusive else None, gate
        exclusive_gate.backward(*given, d_out, of_values if exclusive else None, of_gate)
        grad = d_out
    d_qkv, d_gain = native.backward(grad, qkv, gain, cos, sin, (new_q, new_k, new_v, shares), window, cu_seqlens)
    if exclusive:
        split(d_qkv, gain.shape[0])[2].add_(of_values)
    return d_qkv, d_gain, d_gate


@native_backward.register_fake
def _(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    new_q: torch.Tensor,
    new_k: torch.Tensor,
    new_v: torch.Tensor,
    shares: torch.Tensor,
    attended: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    d_gate = grad.new_empty((0,) if gate is None else gate.shape)
    return qkv.new_empty(qkv.shape), gain.new_empty(gain.shape), d_gate


def _native_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    *tensors, ctx.window, cu_seqlens, gradient, ctx.exclusive, gate = inputs
    assert gradient, "qkv_attention was asked for no gradient"
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[1:], cu_seqlens, gate)


def _native_backward(ctx: Any, grad: torch.Tensor | None, *_auxiliary: None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 9
    *saved, cu_seqlens, gate = ctx.saved_tensors
    d_qkv, d_gain, d_gate = native_backward(grad, *saved, ctx.window, cu_seqlens, ctx.exclusive, gate)
    return d_qkv, d_gain, None, None, None, None, None, None, None if gate is None else d_gate


native_forward.register_autograd(_native_backward, setup_context=_native_setup)
