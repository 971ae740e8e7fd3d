"""Window attention as operators of torch.library, so that torch.compile keeps them whole and fuses around them."""

from __future__ import annotations

from typing import Any

import torch


@torch.library.custom_op("golf_fast::window_attention_forward", mutates_args=())
def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    logit_bound: float | None,
    asked_bound: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`out` `[B, T, heads, head_dim]` and, not differentiable, the base-2 log-sum-exp `[B, heads, T]` float32.

    Arguments as in `launches.forward`; `asked_bound` is a `logit_bound` that lies on the device.
    Saves q, k, v, out and the log-sum-exp.
    """
    from golf_fast.ops.window_attention import launches

    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), dtype=torch.float32, device=q.device)
    if q.numel():
        bound = logit_bound if asked_bound is None else asked_bound
        launches.forward(q, k, v, bounds, window, bound, out, lse)()
    return out, lse


@forward.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    logit_bound: float | None,
    asked_bound: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), q.new_empty((q.shape[0], q.shape[2], q.shape[1]), dtype=torch.float32)


@torch.library.custom_op("golf_fast::window_attention_backward", mutates_args=())
def backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k and v from that of `out`."""
    from golf_fast.ops.window_attention import launches

    # The gradient of a sum or a mean is one number with strides of zero.
    grad = grad.contiguous()
    d_query, d_key, d_value = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
    if q.numel():
        delta = torch.empty_like(lse)
        for launch in launches.backward(grad, q, k, v, out, lse, bounds, window, d_query, d_key, d_value, delta):
            launch()
    return d_query, d_key, d_value


@backward.register_fake
def _(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    q, k, v, bounds, ctx.window, _, _ = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, out, lse, bounds)


def _backward(ctx: Any, grad: torch.Tensor | None, _: None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    q, k, v, out, lse, bounds = ctx.saved_tensors
    return (*backward(grad, q, k, v, out, lse, bounds, ctx.window), None, None, None, None)


forward.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op("golf_fast::window_attention_native_forward", mutates_args=())
def native_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`out` `[B, T, heads, head_dim]` and, for the backward, what `native.like_saved` is like.

    `window` and `cu_seqlens` as in `window_attention`.
    """
    from golf_fast.ops.window_attention import native

    kv_heads = k.shape[2]
    new_q, new_k, new_v = (native.to_matrices(t, kv_heads) for t in (q, k, v))
    return native.forward(new_q, new_k, new_v, q.shape, kv_heads, window, cu_seqlens, gradient)


@native_forward.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    from golf_fast.ops.window_attention import native

    return q.new_empty(q.shape), *native.like_saved(q, k, v, cu_seqlens, gradient)


@torch.library.custom_op("golf_fast::window_attention_native_backward", mutates_args=())
def native_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    shares: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of what `native_forward` took for q, k and v, from that of `out` and what it returned."""
    from golf_fast.ops.window_attention import native

    d_heads, d_keys, d_values = _native_gradients(grad, k)
    kv_heads = d_keys.shape[2]
    found = native.backward(native.to_matrices(grad, kv_heads), q, k, v, shares, grad.shape[1], window, cu_seqlens)
    for matrix, target in zip(found, (d_heads, d_keys, d_values), strict=True):
        native.from_matrices(matrix, target, kv_heads)
    return d_heads, d_keys, d_values


def _native_gradients(grad: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, _, _, head_dim = grad.shape
    keys = rows, k.shape[1], k.shape[0] // max(rows, 1), head_dim
    return grad.new_empty(grad.shape), grad.new_empty(keys), grad.new_empty(keys)


@native_backward.register_fake
def _(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    shares: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _native_gradients(grad, k)


def _native_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    *_, ctx.window, cu_seqlens, gradient = inputs
    assert gradient, "window_attention was asked for no gradient"
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:], cu_seqlens)


def _native_backward(ctx: Any, grad: torch.Tensor | None, *_auxiliary: None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    *saved, cu_seqlens = ctx.saved_tensors
    return (*native_backward(grad, *saved, ctx.window, cu_seqlens), None, None, None)


native_forward.register_autograd(_native_backward, setup_context=_native_setup)
