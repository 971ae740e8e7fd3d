"""From token ids to the residual stream: embedding, hashed bigram, smear (seed.md section 3, "Embedding")."""

import torch
from torch.nn import functional as F

NORM_EPS = 1.1920929e-07
"""float32's epsilon, whatever the dtype of the input."""


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    """`x / sqrt(mean(x^2) + eps)` over the last dimension, without a gain; mean square in float32."""
    return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPS)


def bigram_rows(tokens: torch.Tensor, buckets: int) -> torch.Tensor:
    """The row of the bigram table for each token and the one before it.

    Args:
        tokens: `[B, T]` int64.
        buckets: rows of the table; the last one stands for "no token before".

    Returns:
        `[B, T]` int64: `((36313 * t[i]) xor (27191 * t[i-1])) mod (buckets - 1)` in int32 arithmetic, and
        `buckets - 1` at the start of each row.
    """
    ids = tokens.to(torch.int32)
    hashed = torch.bitwise_xor(36313 * ids[:, 1:], 27191 * ids[:, :-1])
    return F.pad(hashed.remainder(buckets - 1), (1, 0), value=buckets - 1).long()


def smear(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Mix each position of `x` `[B, T, D]` with the one before it, by `sigmoid(gate)` `[D]`; before the first is 0."""
    share = torch.sigmoid(gate)
    return (1 - share) * x + share * F.pad(x, (0, 0, 1, -1))
