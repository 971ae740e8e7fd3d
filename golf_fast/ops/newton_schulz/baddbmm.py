"""Newton-Schulz with `torch.baddbmm`: additions are fused into the matrix products, before rounding."""

from __future__ import annotations

import torch

from golf_fast.ops.newton_schulz.reference import Coefficients, normalized, schedule


def newton_schulz(bank: torch.Tensor, iterations: int, dtype: torch.dtype, coefficients: Coefficients) -> torch.Tensor:
    """Arguments as in `golf_fast.ops.newton_schulz`."""
    tall = bank.shape[-2] > bank.shape[-1]
    x = normalized(bank, dtype, coefficients)
    x = x.mT.contiguous() if tall else x
    for a, b, c in schedule(coefficients, iterations):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
