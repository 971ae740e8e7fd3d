"""Norm, rotation and attention on a CPU: the passes write what the products read, and read what they write."""

from __future__ import annotations

import torch

from golf_fast.ops.qk_norm_rope.native import turn, turn_back
from golf_fast.ops.qkv_attention.reference import split
from golf_fast.ops.rms_norm.reference import EPS
from golf_fast.ops.window_attention import native
from golf_fast.ops.window_attention.native import heads_of

Saved = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""The new q and k, and v, as matrices (see `window_attention.native`), and the shares of the softmax."""


def forward(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The result and what is saved, as `window_attention.native.forward` for the new q and k, and v."""
    q, k, v = split(qkv, gain.shape[0])
    length, kv_heads = q.shape[1], k.shape[2]
    new_q, new_k = native.matrices(q, kv_heads), native.matrices(k, kv_heads)
    gains = gain.chunk(kv_heads)
    for own, of_group, target in zip(q.chunk(kv_heads, 2), gains, heads_of(new_q, kv_heads, length), strict=True):
        turn(own, of_group, cos, sin, EPS, target)
    turn(k, None, cos, sin, EPS, _side_by_side(new_k, kv_heads))
    new_v = native.to_matrices(v, kv_heads)
    return native.forward(new_q, new_k, new_v, q.shape, kv_heads, window, cu_seqlens, gradient)


def backward(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    saved: Saved,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `qkv` and `gain` from that of the result."""
    heads = gain.shape[0]
    q, k, _ = split(qkv, heads)
    length, kv_heads = q.shape[1], k.shape[2]
    of_result = native.to_matrices(grad, kv_heads)
    d_new_q, d_new_k, d_new_v = native.backward(of_result, *saved, length, window, cu_seqlens)
    d_qkv = torch.empty_like(qkv)
    d_q, d_k, d_v = split(d_qkv, heads)
    d_gains = []
    groups = zip(
        heads_of(d_new_q, kv_heads, length),
        q.chunk(kv_heads, 2),
        gain.chunk(kv_heads),
        d_q.chunk(kv_heads, 2),
        strict=True,
    )
    for of_new, own, gains, target in groups:
        d_gains.append(turn_back(of_new, own, gains, cos, sin, EPS, target))
    turn_back(_side_by_side(d_new_k, kv_heads), k, None, cos, sin, EPS, d_k)
    native.from_matrices(d_new_v, d_v, kv_heads)
    return d_qkv, torch.cat([d for d in d_gains if d is not None]).to(gain.dtype)


def _side_by_side(matrices: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Matrices `[B * kv_heads, T, head_dim]` as heads `[B, T, kv_heads, head_dim]`."""
    return matrices.view(matrices.shape[0] // kv_heads, kv_heads, *matrices.shape[1:]).transpose(1, 2)
