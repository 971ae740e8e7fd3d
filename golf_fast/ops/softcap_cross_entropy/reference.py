"""Soft-capped logits and their cross-entropy in plain PyTorch: the definition of the op."""

import torch
from torch.nn import functional as F


def softcap_logits(x: torch.Tensor, weight: torch.Tensor, softcap: float) -> torch.Tensor:
    """`softcap * tanh(x @ weight.T / softcap)` in float32 (in float64 for float64 inputs), `[..., V]`."""
    logits = F.linear(x, weight)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return softcap * torch.tanh(logits / softcap)


def softcap_cross_entropy(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    """Shapes as in `golf_fast.ops.softcap_cross_entropy`."""
    return softcap_losses(F.linear(x, weight), targets, softcap)


def softcap_losses(logits: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    """Shapes as in `golf_fast.ops.softcap_losses`."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    capped = softcap * torch.tanh(logits / softcap)
    losses = F.cross_entropy(capped.flatten(0, -2), targets.flatten(), reduction="none")
    return losses.view(targets.shape)
