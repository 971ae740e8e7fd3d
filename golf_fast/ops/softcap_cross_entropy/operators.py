"""Soft cap and cross-entropy as an operator of torch.library, so that torch.compile keeps it whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes


@torch.library.custom_op("golf_fast::softcap_cross_entropy_forward", mutates_args=())
def forward(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`losses [rows]` float32 and `d loss / d logits [rows, V]` (empty unless `gradient`)."""
    logits = torch.mm(x, weight.T)
    losses = x.new_empty(x.shape[0], dtype=torch.float32)
    if passes.chosen("softcap_cross_entropy", x):
        sizes = logits.shape[0], logits.shape[1], softcap, gradient
        passes.run("softcap_cross_entropy", logits, logits, targets, None, losses, *sizes)
    elif x.shape[0]:
        from golf_fast.ops.softcap_cross_entropy import triton

        triton.row_launch(logits, targets, losses, softcap, gradient, triton.choose_row(weight.shape[0]))()
    return losses, logits if gradient else x.new_empty(0)


@forward.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = x.shape[0]
    return x.new_empty(rows, dtype=torch.float32), x.new_empty((rows, weight.shape[0]) if gradient else 0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    x, weight, _, _, gradient = inputs
    assert gradient, "softcap_cross_entropy was asked for no gradient"
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1])


def _backward(ctx: Any, g: torch.Tensor | None, _auxiliary: None) -> tuple[torch.Tensor | None, ...]:
    if g is None:
        return None, None, None, None, None
    x, weight, change = ctx.saved_tensors
    d_x = d_weight = None
    if ctx.needs_input_grad[0]:
        d_x = ((change @ weight) * g[:, None]).to(x.dtype)
    if ctx.needs_input_grad[1]:
        # g is 1 / rows in training, too small for float16: only its shape goes through the product. A power of two
        # rounds nothing on the way back.
        size = torch.linalg.vector_norm(g).clamp_min(torch.finfo(torch.float32).tiny).log2().ceil().exp2()
        d_weight = (change.T @ (x * (g / size)[:, None]).to(x.dtype)) * size
    return d_x, d_weight, None, None, None


forward.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op("golf_fast::softcap_losses_forward", mutates_args=())
def native_losses_forward(logits: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    """`losses [rows]` float32 of contiguous `logits [rows, V]`, in C++."""
    losses = logits.new_empty(logits.shape[0], dtype=torch.float32)
    passes.run("softcap_cross_entropy", logits, logits, targets, None, losses, *logits.shape, softcap, False)
    return losses


@native_losses_forward.register_fake
def _(logits: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.float32)


@torch.library.custom_op("golf_fast::softcap_losses_backward", mutates_args=())
def native_losses_backward(
    g: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, softcap: float
) -> torch.Tensor:
    """The gradient of the logits from `g [rows]` float32, that of the losses; the softmax is computed again."""
    change, losses = logits.clone(), torch.empty_like(g)
    passes.run("softcap_cross_entropy", change, change, targets, g, losses, *logits.shape, softcap, True)
    return change


@native_losses_backward.register_fake
def _(g: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    return torch.empty_like(logits)


def _losses_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    logits, targets, ctx.softcap = inputs
    ctx.save_for_backward(logits, targets)


def _losses_backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return native_losses_backward(g.contiguous(), *ctx.saved_tensors, ctx.softcap), None, None


native_losses_forward.register_autograd(_losses_backward, setup_context=_losses_setup)
