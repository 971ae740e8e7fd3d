"""Norm, rotation and gain of heads in one pass in C++, and its backward in another, in whatever layout they lie."""

from __future__ import annotations

import torch

from golf_fast.ops import passes


def turn(
    x: torch.Tensor, gain: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, eps: float, out: torch.Tensor
) -> None:
    """Write the heads of `x` `[B, T, heads, head_dim]`, normalised, turned and times `gain` (None: 1), into `out`.

    Both may have any strides but of the last dimension, which is 1. A shorter `x` has the last positions of the tables.
    """
    if x.numel():
        tables = _last(cos, x), _last(sin, x)
        passes.run("qk_norm_rope", x, passes.view(x), passes.view(out), *tables, gain, *x.shape, cos.shape[1], eps)


def turn_back(
    grad: torch.Tensor,
    x: torch.Tensor,
    gain: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    eps: float,
    d_x: torch.Tensor,
) -> torch.Tensor | None:
    """Write the gradient of `x` into `d_x`; return that of `gain` `[heads]` float32."""
    if not x.numel():
        return None if gain is None else torch.zeros(x.shape[2], dtype=torch.float32)
    sizes = passes.parts(x.shape[0] * x.shape[1]), x.shape[2]
    parts = None if gain is None else torch.empty(sizes, dtype=torch.float32)
    views, tables = (passes.view(grad), passes.view(x), passes.view(d_x)), (_last(cos, x), _last(sin, x))
    passes.run("qk_norm_rope_gradient", x, *views, *tables, gain, parts, *x.shape, cos.shape[1], eps)
    return None if parts is None else parts.sum(0)


def _last(table: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The rows of a table `[T, pairs]` for the positions of `x`, which are the last of T."""
    return table[table.shape[0] - x.shape[1] :].contiguous()
