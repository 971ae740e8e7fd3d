"""Attention of packed projections in plain PyTorch: the definition of the op."""

from __future__ import annotations

import torch

from golf_fast.ops.exclusive_gate.reference import exclusive_gate
from golf_fast.ops.qk_norm_rope.reference import qk_norm_rope
from golf_fast.ops.window_attention.reference import window_attention


def split(qkv: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of `[B, T, heads + 2 * kv_heads, head_dim]`, as views."""
    kv_heads = (qkv.shape[2] - heads) // 2
    q, k, v = torch.split(qkv, [heads, kv_heads, kv_heads], dim=2)
    return q, k, v


def qkv_attention(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    window: int | None = None,
    gate: torch.Tensor | None = None,
    *,
    cu_seqlens: torch.Tensor | None = None,
    exclusive: bool = False,
) -> torch.Tensor:
    """Shapes as in `golf_fast.ops.qkv_attention`."""
    q, k, v = split(qkv, gain.shape[0])
    q, k = qk_norm_rope(q, k, gain, cos, sin)
    out = window_attention(q, k, v, window, cu_seqlens=cu_seqlens)
    assert isinstance(out, torch.Tensor)
    return exclusive_gate(out, v if exclusive else None, gate)
