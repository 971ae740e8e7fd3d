"""The gated smear as operators of torch.library, so that torch.compile keeps the passes in C++ whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes


@torch.library.custom_op("golf_fast::gated_smear_forward", mutates_args=())
def forward(
    x: torch.Tensor, gate: torch.Tensor, share: torch.Tensor, begins: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result and, for the backward, the sigmoids `[B, T]` float32; all arguments are contiguous."""
    out, openings = torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=torch.float32)
    if x.numel():
        rows, width = passes.rows(x)
        given = x, gate, share, begins, out, openings
        passes.run("gated_smear", x, *given, rows, x.shape[1], width, gate.shape[1])
    return out, openings


@forward.register_fake
def _(
    x: torch.Tensor, gate: torch.Tensor, share: torch.Tensor, begins: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("golf_fast::gated_smear_backward", mutates_args=())
def backward(
    grad: torch.Tensor, x: torch.Tensor, gate: torch.Tensor, share: torch.Tensor, openings: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of x, and of gate and share side by side, `[n + 1]` float32, a sum of parts in a fixed order."""
    d_x, channels = torch.empty_like(x), gate.shape[1]
    if not x.numel():
        return d_x, x.new_zeros(channels + 1, dtype=torch.float32)
    rows, width = passes.rows(x)
    parts = openings.new_empty(passes.parts(rows), channels + 1)
    # The gradient of a sum or a mean is one number with strides of zero.
    given = grad.contiguous(), x, gate, share, openings, d_x, parts
    passes.run("gated_smear_gradient", x, *given, rows, x.shape[1], width, channels)
    return d_x, parts.sum(0)


@backward.register_fake
def _(
    grad: torch.Tensor, x: torch.Tensor, gate: torch.Tensor, share: torch.Tensor, openings: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), x.new_empty(gate.shape[1] + 1, dtype=torch.float32)


def _setup_context(
    ctx: Any, inputs: tuple[torch.Tensor | None, ...], output: tuple[torch.Tensor, torch.Tensor]
) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], output[1])


def _backward(ctx: Any, grad: torch.Tensor | None, _openings: None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    x, gate, share, openings = ctx.saved_tensors
    d_x, vector = backward(grad, x, gate, share, openings)
    return d_x, vector[None, :-1].to(gate.dtype), vector[-1:].to(share.dtype), None


forward.register_autograd(_backward, setup_context=_setup_context)
