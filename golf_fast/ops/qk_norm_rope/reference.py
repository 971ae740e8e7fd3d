"""Per-head RMS norm, rotary embedding and gain in plain PyTorch: the definition of the op."""

import torch
from torch.nn import functional as F

from golf_fast.ops.rms_norm.reference import EPS


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the half-split pairs of the first dimensions of `x` `[B, T, heads, head_dim]`.

    `cos` and `sin` are `[T, pairs]`; dimension i turns with i + pairs, those from 2 * pairs on stay. The positions of a
    shorter `x` are the last.
    """
    pairs = cos.shape[1]
    cos, sin = (table[table.shape[0] - x.shape[1] :] for table in (cos, sin))
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((a * cos + b * sin, b * cos - a * sin, rest), dim=-1)


def qk_norm_rope(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes as in `golf_fast.ops.qk_norm_rope`.

    In low precision this rounds after the norm (whose mean square is in float32), after each product and sum of the
    rotation, and after the gain.
    """
    q = rotate(F.rms_norm(q, (q.shape[-1],), eps=EPS), cos, sin) * gain[:, None]
    k = rotate(F.rms_norm(k, (k.shape[-1],), eps=EPS), cos, sin)
    return q, k
