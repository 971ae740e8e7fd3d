"""The head of the model: output matrix, soft cap and cross-entropy in one op."""

import torch

from golf_fast.ops import backends
from golf_fast.ops.softcap_cross_entropy import reference
from golf_fast.ops.softcap_cross_entropy.reference import softcap_logits

__all__ = ["softcap_cross_entropy", "softcap_logits"]

backends.register(
    "softcap_cross_entropy", backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere)
)


def softcap_cross_entropy(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    """Cross-entropy of `softcap * tanh(x @ weight.T / softcap)` against `targets`, one value for each row.

    Args:
        x: `[..., D]`, any floating dtype.
        weight: `[V, D]`, the dtype of `x`.
        targets: `[...]`, int64, from 0 to V - 1.
        softcap: bound of the logits.

    Returns:
        `[...]` float32 (float64 for float64 inputs), nats.
    """
    return reference.softcap_cross_entropy(x, weight, targets, softcap)
