"""Causal sliding-window attention in plain PyTorch: the definition of the op."""

import torch


def window_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Softmax attention with an explicit mask; shapes as in `golf_fast.ops.window_attention`."""
    rows, length, heads, head_dim = q.shape
    group = heads // k.shape[2]
    k = k.repeat_interleave(group, dim=2)
    v = v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k).float() * head_dim**-0.5
    position = torch.arange(length, device=q.device)
    distance = position[:, None] - position[None, :]
    visible = distance >= 0
    if window is not None:
        visible &= distance < window
    probabilities = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", probabilities.to(v.dtype), v)
