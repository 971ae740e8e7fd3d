"""Exclusive self-attention and the gates of the heads in plain PyTorch: the definition of the op, and its CPU path."""

from __future__ import annotations

import torch

SMALLEST = 1e-12
"""Least length that a value is divided by."""


def exclusive_gate(y: torch.Tensor, v: torch.Tensor | None = None, gate: torch.Tensor | None = None) -> torch.Tensor:
    """Shapes as in `golf_fast.ops.exclusive_gate`. In low precision this rounds after every operation."""
    if v is not None:
        direction = (v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=SMALLEST)).unsqueeze(-2)
        grouped = y.reshape(*y.shape[:-2], v.shape[-2], -1, y.shape[-1])
        y = (grouped - (grouped * direction).sum(-1, keepdim=True) * direction).flatten(-3, -2)
    return y if gate is None else y * torch.sigmoid(gate)[..., None]
