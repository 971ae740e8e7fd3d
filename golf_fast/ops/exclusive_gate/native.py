"""Exclusive self-attention and the gates of the heads in one pass in C++, and their gradients in another."""

from __future__ import annotations

import torch

from golf_fast.ops import passes
from golf_fast.ops.exclusive_gate.reference import SMALLEST


def forward(y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None, out: torch.Tensor) -> None:
    """Write `out`; all are contiguous but `v`, whose last stride is 1."""
    passes.run("exclusive_gate", y, y, _values(v), gate, out, *_sizes(y, v), SMALLEST)


def backward(
    grad: torch.Tensor,
    y: torch.Tensor,
    v: torch.Tensor | None,
    gate: torch.Tensor | None,
    d_y: torch.Tensor,
    d_v: torch.Tensor | None,
    d_gate: torch.Tensor | None,
) -> None:
    """Write `d_y`, and `d_v` and `d_gate` for what is not None, all contiguous."""
    given = (grad, y, _values(v), gate)
    passes.run("exclusive_gate_gradient", y, *given, d_y, d_v, d_gate, *_sizes(y, v), SMALLEST)


def _values(v: torch.Tensor | None) -> passes.View:
    return (0, 0, 0, 0) if v is None else passes.view(v)


def _sizes(y: torch.Tensor, v: torch.Tensor | None) -> tuple[int, ...]:
    """Rows, positions, value heads, the query heads of each, and their width."""
    rows, length, heads, head_dim = y.shape
    kv_heads = heads if v is None else v.shape[2]
    return rows, length, kv_heads, heads // kv_heads, head_dim
