"""The norm and rotation of queries and keys as operators of torch.library, for torch.compile."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes
from golf_fast.ops.rms_norm.reference import EPS

OP = "qk_norm_rope"


@torch.library.custom_op("golf_fast::qk_norm_rope_forward", mutates_args=())
def forward(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The new q and k, contiguous. Saves its inputs: what it computes from them is cheaper to compute again."""
    q_out, k_out = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k))
    if passes.chosen(OP, q):
        from golf_fast.ops.qk_norm_rope import native

        native.turn(q, gain, cos, sin, EPS, q_out)
        native.turn(k, None, cos, sin, EPS, k_out)
    elif q.numel():
        from golf_fast.ops.qk_norm_rope import triton

        triton.forward(q, k, gain, cos, sin, EPS, q_out, k_out)()
    return q_out, k_out


@forward.register_fake
def _(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


@torch.library.custom_op("golf_fast::qk_norm_rope_backward", mutates_args=())
def backward(
    q_grad: torch.Tensor,
    k_grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k and gain; that of the gain is the sum of one part for each program, in a fixed order."""
    d_q, d_k = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k))
    if passes.chosen(OP, q):
        from golf_fast.ops.qk_norm_rope import native

        of_gain = native.turn_back(q_grad.contiguous(), q, gain, cos, sin, EPS, d_q)
        native.turn_back(k_grad.contiguous(), k, None, cos, sin, EPS, d_k)
        assert of_gain is not None
        return d_q, d_k, of_gain.to(gain.dtype)
    from golf_fast.ops.qk_norm_rope import triton

    d_gain = torch.empty((triton.programs(q), q.shape[2]), dtype=torch.float32, device=q.device)
    if q.numel():
        # The gradient of a sum or a mean is one number with strides of zero.
        grads = q_grad.contiguous(), k_grad.contiguous()
        triton.backward(*grads, q, k, gain, cos, sin, EPS, d_q, d_k, d_gain)()
    return d_q, d_k, d_gain.sum(0).to(gain.dtype)


@backward.register_fake
def _(
    q_grad: torch.Tensor,
    k_grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), gain.new_empty(gain.shape)


def _setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, q_grad: torch.Tensor, k_grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return (*backward(q_grad, k_grad, *ctx.saved_tensors), None, None)


forward.register_autograd(_backward, setup_context=_setup_context)
