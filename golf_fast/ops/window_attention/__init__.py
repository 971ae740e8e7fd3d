"""Causal attention with grouped query heads and an optional left window."""

import torch
from torch.nn import functional as F

from golf_fast.ops import backends
from golf_fast.ops.window_attention import reference

backends.register(
    "window_attention",
    backends.Candidate("sdpa", "torch's scaled_dot_product_attention picks its fastest kernel", backends.anywhere),
    backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere),
)


def window_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Softmax attention of every position to itself and the positions before it, within `window`.

    Args:
        q: `[B, T, heads, head_dim]`, any floating dtype.
        k: `[B, T, kv_heads, head_dim]`; query head h reads key/value head `h // (heads / kv_heads)`.
        v: as `k`.
        window: how many positions a query sees, itself included; None: all before it.

    Returns:
        `[B, T, heads, head_dim]`, the dtype of `q`. Scores are scaled by `head_dim^-0.5`.
    """
    if window is not None or backends.resolve("window_attention", q.device).name == "reference":
        return reference.window_attention(q, k, v, window)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=q.shape[2] != k.shape[2]
    )
    return out.transpose(1, 2)
