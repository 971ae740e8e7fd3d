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
