"""A product with its residual as an operator of torch.library, so that torch.compile keeps it whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes
from golf_fast.ops.launch import architecture, multiprocessors
from golf_fast.ops.rms_norm.reference import EPS

OP = "linear_residual"


@torch.library.custom_op("golf_fast::linear_residual", mutates_args=())
def forward(x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """out `[tokens, D]` and rstd `[tokens]` float32."""
    if passes.chosen(OP, x):
        out, rstd = torch.mm(x, w.T), torch.empty(x.shape[0], dtype=torch.float32)
        passes.run("linear_residual", out, residual, out, rstd, *passes.rows(out), EPS)
        return out, rstd
    from golf_fast.ops.linear_residual import triton

    out, rstd = residual.new_empty(residual.shape), residual.new_empty(x.shape[0], dtype=torch.float32)
    if x.shape[0]:
        processors = multiprocessors(x.device)
        tiles = triton.choose_tiles(architecture(x.device), x.shape[0], w.shape[0], processors)
        triton.launch(x, w, residual, out, rstd, tiles, processors)()
    return out, rstd


@forward.register_fake
def _(x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return residual.new_empty(residual.shape), residual.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.custom_op("golf_fast::linear_residual_norm_gradient", mutates_args=())
def native_norm_gradient(
    g: torch.Tensor | None, out: torch.Tensor, rstd: torch.Tensor, drstd: torch.Tensor
) -> torch.Tensor:
    """The gradient of `out` `[tokens, D]`: its own, `g` (or None), and what the factors `[tokens]` float32 add."""
    d_out = torch.empty_like(out)
    passes.run("linear_residual_gradient", out, g, out, rstd, drstd, d_out, *passes.rows(out))
    return d_out


@native_norm_gradient.register_fake
def _(g: torch.Tensor | None, out: torch.Tensor, rstd: torch.Tensor, drstd: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(out)


def _norm_gradient(g: torch.Tensor | None, out: torch.Tensor, rstd: torch.Tensor, drstd: torch.Tensor) -> torch.Tensor:
    """As `native_norm_gradient`, in PyTorch operations that a compiler can fuse."""
    of_norm = (drstd * rstd**3 / -out.shape[1])[:, None] * out.float()
    return of_norm.to(out.dtype) if g is None else (g.float() + of_norm).to(out.dtype)


def _setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, w, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, w, *output)


def _backward(ctx: Any, g: torch.Tensor | None, drstd: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    x, w, out, rstd = ctx.saved_tensors
    if drstd is not None:
        if passes.chosen(OP, out):
            g = native_norm_gradient(None if g is None else g.contiguous(), out, rstd, drstd.contiguous())
        else:
            g = _norm_gradient(g, out, rstd, drstd)
    if g is None:
        return None, None, None
    needed = ctx.needs_input_grad
    return g @ w if needed[0] else None, g.T @ x if needed[1] else None, g if needed[2] else None


forward.register_autograd(_backward, setup_context=_setup_context)
