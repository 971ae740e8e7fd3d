"""RMS norm as operators of torch.library, so that torch.compile keeps the passes in C++ whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes
from golf_fast.ops.rms_norm.reference import EPS


@torch.library.custom_op("golf_fast::rms_norm_forward", mutates_args=())
def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The norm of contiguous `x` `[..., D]` and, for the backward, the factors of the rows `[...]` float32."""
    out, factors = torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=torch.float32)
    if x.numel():
        passes.run("rms_norm", x, x, out, factors, *passes.rows(x), EPS)
    return out, factors


@forward.register_fake
def _(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("golf_fast::rms_norm_backward", mutates_args=())
def backward(grad: torch.Tensor, x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The gradient of `x` from that of the norm, as `x`."""
    d_x = torch.empty_like(x)
    if x.numel():
        # The gradient of a sum or a mean is one number with strides of zero.
        passes.run("rms_norm_gradient", x, grad.contiguous(), x, factors, d_x, *passes.rows(x))
    return d_x


@backward.register_fake
def _(grad: torch.Tensor, x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def _setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(inputs[0], output[1])


def _backward(ctx: Any, grad: torch.Tensor | None, _factors: None) -> torch.Tensor | None:
    return None if grad is None else backward(grad, *ctx.saved_tensors)


forward.register_autograd(_backward, setup_context=_setup_context)
