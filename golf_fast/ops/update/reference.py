"""The factors and the momentum of an update in plain PyTorch: the definition of the op."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Factors(NamedTuple):
    """See `golf_fast.ops.update_factors`."""

    doubt: torch.Tensor
    ok: torch.Tensor
    failed: torch.Tensor
    clip: torch.Tensor


def factors(found: torch.Tensor, doubt: torch.Tensor, grad_clip: float, squares: bool) -> Factors:
    """Arguments as in `golf_fast.ops.update_factors`."""
    norms, loss = found[:-1], found[-1]
    norm = norms.sum().sqrt() if squares else torch.linalg.vector_norm(norms)
    doubt = torch.addcmul(doubt, norm, loss, value=0).to(doubt.dtype)  # 0 * infinity is no number either
    clip = (grad_clip / (norm + 1e-6)).clamp(max=1.0) if grad_clip > 0 else torch.ones_like(norm)
    return Factors(doubt, doubt == 0, (doubt != 0).to(doubt.dtype), clip)


def nesterov(
    gradient: torch.Tensor, momentum: torch.Tensor, mu: float, clip: torch.Tensor | None, failed: torch.Tensor | None
) -> torch.Tensor:
    """Arguments as in `golf_fast.ops.nesterov`."""
    clipped = gradient if clip is None else gradient * clip
    moved = momentum.mul_(mu) if failed is None else momentum * mu
    moved.add_(clipped)
    # What was made here may be written over.
    direction = torch.add(clipped, moved, alpha=mu, out=None if clip is None else clipped)
    if failed is not None:
        ok = failed == 0
        torch.where(ok, moved, momentum, out=momentum)
        torch.where(ok, direction, direction.new_zeros(()), out=direction)
    return direction
