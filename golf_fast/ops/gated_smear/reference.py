"""Each position plus a gated share of the previous position in plain PyTorch: the definition of the op."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def gated_smear(
    x: torch.Tensor, gate: torch.Tensor, share: torch.Tensor, begins: torch.Tensor | None = None
) -> torch.Tensor:
    """As `golf_fast.ops.gated_smear`. In low precision this rounds after every operation."""
    opening = share * torch.sigmoid(F.linear(x[..., : gate.shape[1]], gate))
    before = F.pad(x, (0, 0, 1, -1))
    added = opening * before
    return x + (added if begins is None else added.masked_fill(begins[..., None], 0))
