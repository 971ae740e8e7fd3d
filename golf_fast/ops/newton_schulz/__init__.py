"""Approximate orthogonalization of matrices, the heart of Muon."""

import torch

from golf_fast.ops import backends
from golf_fast.ops.newton_schulz import reference

backends.register("newton_schulz", backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere))


def newton_schulz(bank: torch.Tensor, iterations: int = 5, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Replace each matrix of a bank by one with (nearly) the same singular vectors and singular values near 1.

    The quintic iteration of Muon (Jordan et al., 2024): `A = X X^T`, `X <- 3.4445 X + (-4.7750 A + 2.0315 A A) X`,
    after division by the Frobenius norm plus 1e-7; tall matrices are transposed for it.

    Args:
        bank: `[n, rows, cols]`, any floating dtype; not differentiable.
        iterations: how many times.
        dtype: what the iteration computes in.

    Returns:
        `[n, rows, cols]` in `dtype`.
    """
    return reference.newton_schulz(bank, iterations, dtype)
