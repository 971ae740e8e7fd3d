"""Causal sliding-window attention in plain PyTorch: the definition of the op."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def document_bounds(cu_seqlens: torch.Tensor, length: int) -> torch.Tensor:
    """First position of the document of each position, and last: `[2, length]` int32, on the device of `cu_seqlens`.

    Positions from the last entry of `cu_seqlens` on are one more document. Whatever `cu_seqlens` holds, a position
    lies within its own bounds, and they within `0 .. length - 1`.
    """
    position = torch.arange(length, device=cu_seqlens.device, dtype=torch.int32)
    document = torch.searchsorted(cu_seqlens, position, right=True)
    edges = F.pad(F.pad(cu_seqlens, (1, 0)), (0, 1), value=length).to(torch.int32)
    first = edges[document].clamp(min=0).minimum(position)
    last = (edges[document + 1] - 1).clamp(max=length - 1).maximum(position)
    return torch.stack((first, last))


def visible(length: int, window: int | None, cu_seqlens: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """Which key each query sees: `[T, T]` bool, queries first."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    if cu_seqlens is not None:
        seen &= position[None, :] >= document_bounds(cu_seqlens, length)[0][:, None]
    return seen


def scores(
    q: torch.Tensor, k: torch.Tensor, window: int | None = None, cu_seqlens: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled scores `[B, heads, T, T]` in float32 (float64 for float64 inputs), minus infinity where invisible.

    The queries of a shorter `q` are the last.
    """
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    products: torch.Tensor = torch.einsum("bqhd,bkhd->bhqk", q, k)
    products = products if q.dtype == torch.float64 else products.float()
    hidden = ~visible(k.shape[1], window, cu_seqlens, q.device)[k.shape[1] - q.shape[1] :]
    return (products / math.sqrt(q.shape[3])).masked_fill(hidden, float("-inf"))


def log_sum_exp(
    q: torch.Tensor, k: torch.Tensor, window: int | None = None, cu_seqlens: torch.Tensor | None = None
) -> torch.Tensor:
    """Natural logarithm of the sum of the exponentials of each row of `scores`: `[B, heads, T]`, not differentiable."""
    with torch.no_grad():
        return scores(q, k, window, cu_seqlens).logsumexp(dim=-1)


def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None = None,
    *,
    cu_seqlens: torch.Tensor | None = None,
    logit_bound: float | torch.Tensor | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention with an explicit mask, for `[B, T, heads, head_dim]` or packed `[T, heads, head_dim]`.

    Arguments as in `golf_fast.ops.window_attention`; `logit_bound` changes nothing here.
    """
    if q.ndim == 3:
        packed = window_attention(q[None], k[None], v[None], window, cu_seqlens=cu_seqlens, return_lse=return_lse)
        return (packed[0][0], packed[1][0]) if return_lse else packed[0]
    probabilities = scores(q, k, window, cu_seqlens).softmax(dim=-1).to(v.dtype)
    out = torch.einsum("bhqk,bkhd->bqhd", probabilities, v.repeat_interleave(q.shape[2] // k.shape[2], dim=2))
    return (out, log_sum_exp(q, k, window, cu_seqlens)) if return_lse else out
