"""The squared-ReLU MLP as operators of torch.library, so that torch.compile keeps them whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes
from golf_fast.ops.launch import architecture, multiprocessors

OP = "relu2_mlp"


@torch.library.custom_op("golf_fast::relu2_mlp_forward", mutates_args=())
def forward(
    x: torch.Tensor, w_up: torch.Tensor, w_down: torch.Tensor, rstd: torch.Tensor | None, negative_slope: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`out [tokens, D]`, and for the backward `post [tokens, hidden]` and `pre`.

    `pre` is the argument of the activation, empty without a negative slope; in C++ it is always `x @ w_up.T`.
    """
    tokens, hidden = x.shape[0], w_up.shape[0]
    if passes.chosen(OP, x):
        product = torch.mm(x, w_up.T)
        active = torch.empty_like(product)
        passes.run("relu2", x, product, active, rstd, *passes.rows(product), negative_slope)
        return torch.mm(active, w_down.T), active, product
    from golf_fast.ops.relu2_mlp import triton

    post = x.new_empty(tokens, hidden)
    pre = x.new_empty(tokens, hidden) if negative_slope else None
    if tokens:
        processors = multiprocessors(x.device)
        tiles = triton.choose_tiles("up", architecture(x.device), tokens, hidden, processors)
        triton.up_launch(x, w_up, rstd, post, pre, negative_slope, tiles, processors)()
    return torch.mm(post, w_down.T), post, x.new_empty(0) if pre is None else pre


@forward.register_fake
def _(
    x: torch.Tensor, w_up: torch.Tensor, w_down: torch.Tensor, rstd: torch.Tensor | None, negative_slope: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    kept = (x.shape[0], w_up.shape[0])
    return x.new_empty(x.shape), x.new_empty(kept), x.new_empty(kept if negative_slope or passes.chosen(OP, x) else 0)


@torch.library.custom_op("golf_fast::relu2_mlp_dpre", mutates_args=())
def dpre(
    g: torch.Tensor, w_down: torch.Tensor, saved: torch.Tensor, rstd: torch.Tensor | None, negative_slope: float
) -> torch.Tensor:
    """The gradient of `x @ w_up.T`, `[tokens, hidden]`: that of the argument of the activation times rstd.

    `saved` is what `forward` returned as `pre`, where that is not empty, else as `post`.
    """
    tokens, hidden = saved.shape
    if passes.chosen(OP, g):
        change = torch.mm(g, w_down)
        passes.run("relu2_gradient", change, change, saved, rstd, *passes.rows(change), negative_slope)
        return change
    from golf_fast.ops.relu2_mlp import triton

    result = torch.empty_like(saved)
    if tokens:
        processors = multiprocessors(g.device)
        tiles = triton.choose_tiles("dpre", architecture(g.device), tokens, hidden, processors)
        triton.dpre_launch(g, w_down, saved, rstd, result, negative_slope, tiles, processors)()
    return result


@dpre.register_fake
def _(
    g: torch.Tensor, w_down: torch.Tensor, saved: torch.Tensor, rstd: torch.Tensor | None, negative_slope: float
) -> torch.Tensor:
    return torch.empty_like(saved)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    x, w_up, w_down, rstd, negative_slope = inputs
    _, post, pre = output
    ctx.mark_non_differentiable(post, pre)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, w_up, w_down, rstd, post, pre)
    ctx.negative_slope = negative_slope


def _backward(ctx: Any, g: torch.Tensor | None, *_auxiliary: None) -> tuple[torch.Tensor | None, ...]:
    if g is None:
        return None, None, None, None, None
    x, w_up, w_down, rstd, post, pre = ctx.saved_tensors
    g = g.contiguous()
    change = dpre(g, w_down, pre if pre.numel() else post, rstd, ctx.negative_slope)
    needed = ctx.needs_input_grad
    dx = drstd = None
    if needed[0] or needed[3]:
        dx = change @ w_up
        if needed[3]:
            drstd = native_factor_gradient(dx, x, rstd) if passes.chosen(OP, x) else _factor_gradient(dx, x, rstd)
    return (
        dx if needed[0] else None,
        change.T @ x if needed[1] else None,
        g.T @ post if needed[2] else None,
        drstd,
        None,
    )


def _factor_gradient(dx: torch.Tensor, x: torch.Tensor, rstd: torch.Tensor) -> torch.Tensor:
    """The gradient of `rstd` in PyTorch's operations, for a compiler that fuses them."""
    products: torch.Tensor = torch.linalg.vecdot(dx.float(), x.float())
    return products / rstd


@torch.library.custom_op("golf_fast::relu2_mlp_factor_gradient", mutates_args=())
def native_factor_gradient(dx: torch.Tensor, x: torch.Tensor, rstd: torch.Tensor) -> torch.Tensor:
    """The gradient of `rstd` `[tokens]` float32 from the gradient `dx` of `x`, both `[tokens, D]`."""
    drstd = torch.empty_like(rstd)
    passes.run("row_factor_gradient", x, dx, x, rstd, drstd, *passes.rows(x))
    return drstd


@native_factor_gradient.register_fake
def _(dx: torch.Tensor, x: torch.Tensor, rstd: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(rstd)


forward.register_autograd(_backward, setup_context=_setup_context)
