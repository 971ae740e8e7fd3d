"""The mixing of two residual streams after a block in plain PyTorch: the definition of the op."""

from __future__ import annotations

import torch


def lane_mix(
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `golf_fast.ops.lane_mix`. In low precision this rounds after every operation."""
    one, two = (
        kept[i] * stream + shares[i, 0] * attended + shares[i, 1] * hidden for i, stream in enumerate((first, second))
    )
    return one, two
