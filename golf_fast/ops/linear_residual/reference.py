"""The product, the sum and the norm's factor in plain PyTorch: the definition of the op."""

import torch
from torch.nn import functional as F

from golf_fast.ops.rms_norm.reference import EPS


def linear_residual(x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes as in `golf_fast.ops.linear_residual`. In low precision this rounds the product and the sum."""
    out = residual + F.linear(x, w)
    wide = out if out.dtype == torch.float64 else out.float()
    return out, torch.rsqrt(wide.square().mean(-1) + EPS)
