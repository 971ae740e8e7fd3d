"""The beginning of a block in plain PyTorch: the definition of the op."""

import torch
from torch.nn import functional as F

from golf_fast.ops.rms_norm.reference import EPS


def residual_mix(
    x: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    branch: torch.Tensor | None = None,
    skip: torch.Tensor | None = None,
    skip_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shapes as in `golf_fast.ops.residual_mix`. In low precision this rounds after every operation."""
    if branch is not None:
        x = x + branch
    if skip is not None and skip_weight is not None:
        x = x + skip_weight * skip
    mixed = mix[0] * x + mix[1] * x0
    return x, mixed, F.rms_norm(mixed, (mixed.shape[-1],), eps=EPS)
