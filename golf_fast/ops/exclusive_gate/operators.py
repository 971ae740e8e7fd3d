"""Exclusive self-attention and gates as operators of torch.library, so that torch.compile keeps them whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes

OP = "exclusive_gate"


@torch.library.custom_op("golf_fast::exclusive_gate_forward", mutates_args=())
def forward(y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None) -> torch.Tensor:
    """The new heads, contiguous. Saves its inputs."""
    out = y.new_empty(y.shape)
    if not y.numel():
        return out
    if passes.chosen(OP, y):
        from golf_fast.ops.exclusive_gate import native

        native.forward(y, v, gate, out)
    else:
        from golf_fast.ops.exclusive_gate import triton

        triton.forward(y, v, gate, out)()
    return out


@forward.register_fake
def _(y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None) -> torch.Tensor:
    return y.new_empty(y.shape)


@torch.library.custom_op("golf_fast::exclusive_gate_backward", mutates_args=())
def backward(
    grad: torch.Tensor, y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of y, v and gate, contiguous; of no elements for what is None."""
    d_y, d_v, d_gate = _gradients(y, v, gate)
    if not y.numel():
        return d_y, d_v, d_gate
    own = (None if v is None else d_v), (None if gate is None else d_gate)
    # The gradient of a sum or a mean is one number with strides of zero.
    grad = grad.contiguous()
    if passes.chosen(OP, y):
        from golf_fast.ops.exclusive_gate import native

        native.backward(grad, y, v, gate, d_y, *own)
    else:
        from golf_fast.ops.exclusive_gate import triton

        triton.backward(grad, y, v, gate, d_y, *own)()
    return d_y, d_v, d_gate


def _gradients(
    y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    d_v, d_gate = (y.new_empty((0,) if tensor is None else tensor.shape) for tensor in (v, gate))
    return y.new_empty(y.shape), d_v, d_gate


@backward.register_fake
def _(
    grad: torch.Tensor, y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _gradients(y, v, gate)


def _setup_context(ctx: Any, inputs: tuple[torch.Tensor | None, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    y, v, gate = ctx.saved_tensors
    d_y, d_v, d_gate = backward(grad, y, v, gate)
    return d_y, None if v is None else d_v, None if gate is None else d_gate


forward.register_autograd(_backward, setup_context=_setup_context)
