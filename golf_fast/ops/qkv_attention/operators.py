"""Attention of packed projections as operators of torch.library, so that torch.compile keeps them whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops.qk_norm_rope.reference import EPS
from golf_fast.ops.qkv_attention.reference import split


@torch.library.custom_op("golf_fast::qkv_attention_forward", mutates_args=())
def forward(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    logit_bound: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`out` `[B, T, heads, head_dim]`; for the backward the new q and k, and the base-2 log-sum-exp `[B, heads, T]`.

    `logit_bound` is a float32 scalar on the device; `bounds` and `window` as in `window_attention.launches.forward`.
    """
    from golf_fast.ops.qk_norm_rope import triton
    from golf_fast.ops.window_attention import launches

    heads = gain.shape[0]
    q, k, v = split(qkv, heads)
    new_q, new_k, out = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, q))
    lse = torch.empty((q.shape[0], heads, q.shape[1]), dtype=torch.float32, device=q.device)
    if qkv.numel():
        triton.forward(q, k, gain, cos, sin, EPS, new_q, new_k)()
        launches.forward(new_q, new_k, v, bounds, window, logit_bound, out, lse)()
    return out, new_q, new_k, lse


@forward.register_fake
def _(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    logit_bound: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    q, k, _ = split(qkv, gain.shape[0])
    lse = qkv.new_empty((q.shape[0], q.shape[2], q.shape[1]), dtype=torch.float32)
    return q.new_empty(q.shape), q.new_empty(q.shape), k.new_empty(k.shape), lse


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
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `qkv` and `gain` from that of `out`."""
    from golf_fast.ops.qk_norm_rope import triton
    from golf_fast.ops.window_attention import launches

    heads = gain.shape[0]
    q, k, v = split(qkv, heads)
    d_qkv = torch.empty_like(qkv)
    d_q, d_k, d_v = split(d_qkv, heads)
    if not qkv.numel():
        return d_qkv, torch.zeros_like(gain)
    # The gradient of a sum or a mean is one number with strides of zero.
    grad = grad.contiguous()
    delta = torch.empty_like(lse)
    if cos.shape[1] * 2 == qkv.shape[3]:
        parts = torch.empty(launches.origin_parts(q, k.shape[2]), dtype=torch.float32, device=qkv.device)
        origin = launches.Origin(q, k, gain, cos, sin, EPS, parts)
        for launch in launches.backward(
            grad, new_q, new_k, v, out, lse, bounds, window, d_q, d_k, d_v, delta, origin=origin
        ):
            launch()
        return d_qkv, parts.sum((0, 2)).flatten().to(gain.dtype)
    # Where a part of the dimensions turns, norm and rotation are taken back by their own kernel.
    d_new_q, d_new_k = torch.empty_like(new_q), torch.empty_like(new_k)
    parts = torch.empty((triton.programs(q), heads), dtype=torch.float32, device=qkv.device)
    of_attention = launches.backward(grad, new_q, new_k, v, out, lse, bounds, window, d_new_q, d_new_k, d_v, delta)
    for launch in (*of_attention, triton.backward(d_new_q, d_new_k, q, k, gain, cos, sin, EPS, d_q, d_k, parts)):
        launch()
    return d_qkv, parts.sum(0).to(gain.dtype)


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
) -> tuple[torch.Tensor, torch.Tensor]:
    return qkv.new_empty(qkv.shape), gain.new_empty(gain.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    qkv, gain, cos, sin, _, bounds, ctx.window = inputs
    out, new_q, new_k, lse = output
    ctx.mark_non_differentiable(new_q, new_k, lse)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(qkv, gain, cos, sin, new_q, new_k, out, lse, bounds)


def _backward(ctx: Any, grad: torch.Tensor | None, *_auxiliary: None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    d_qkv, d_gain = backward(grad, *ctx.saved_tensors, ctx.window)
    return d_qkv, d_gain, None, None, None, None, None


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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `window_attention.operators.native_forward` for the new q and k, and v."""
    from golf_fast.ops.qkv_attention import native

    return native.forward(qkv, gain, cos, sin, window, cu_seqlens, gradient)


@native_forward.register_fake
def _(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    from golf_fast.ops.window_attention import native

    q, k, v = split(qkv, gain.shape[0])
    return q.new_empty(q.shape), *native.like_saved(q, k, v, cu_seqlens, gradient)


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
    window: int | None,
    cu_seqlens: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `qkv` and `gain` from that of `out`."""
    from golf_fast.ops.qkv_attention import native

    return native.backward(grad, qkv, gain, cos, sin, (new_q, new_k, new_v, shares), window, cu_seqlens)


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
    window: int | None,
    cu_seqlens: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    return qkv.new_empty(qkv.shape), gain.new_empty(gain.shape)


def _native_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    *tensors, ctx.window, cu_seqlens, gradient = inputs
    assert gradient, "qkv_attention was asked for no gradient"
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[1:], cu_seqlens)


def _native_backward(ctx: Any, grad: torch.Tensor | None, *_auxiliary: None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    *saved, cu_seqlens = ctx.saved_tensors
    d_qkv, d_gain = native_backward(grad, *saved, ctx.window, cu_seqlens)
    return d_qkv, d_gain, None, None, None, None, None


native_forward.register_autograd(_native_backward, setup_context=_native_setup)
