"""Per-head RMS norm, rotary embedding and gain in plain PyTorch: the definition of the op, and its CPU path."""

import torch
from torch.nn import functional as F

EPS = 1.1920929e-07


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the half-split pairs of `x` `[B, T, heads, head_dim]` by `cos`, `sin` `[T, head_dim / 2]`."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


def qk_norm_rope(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes as in `golf_fast.ops.qk_norm_rope`."""
    q = rotate(F.rms_norm(q, (q.shape[-1],), eps=EPS), cos, sin) * gain[:, None]
    k = rotate(F.rms_norm(k, (k.shape[-1],), eps=EPS), cos, sin)
    return q, k
