"""A low-rank correction of the quantization error, for the matrices that need it most (LQER, arXiv 2402.02446)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from golf_fast.compress.integers.rounding import quantize_absmax
from golf_fast.compress.stored import LEFT_SUFFIX, RIGHT_SUFFIX, Quantized, Stored, restore
from golf_fast.config import CompressConfig

FACTOR_BITS = 8
DAMPING = 0.01
"""Share of the mean of a Hessian's diagonal that is added to its diagonal."""


def correct(
    weights: Mapping[str, torch.Tensor],
    stored: Mapping[str, Stored],
    hessians: Mapping[str, torch.Tensor],
    config: CompressConfig,
) -> dict[str, Stored]:
    """The factors of low-rank corrections, under the names that `dequantize` expects.

    The `config.low_rank_tensors` matrices with the largest relative output error get a correction each, of rank
    `config.low_rank` at most: the product that removes most of the output error, with factors rounded to 8 bits.

    Args:
        weights: the float32 matrices that were quantized, by name.
        stored: the quantized matrices by name.
        hessians: as for `quantize`; a matrix without one gets no correction.
        config: the settings of compression.
    """
    if config.low_rank == 0:
        return {}
    shares = {
        name: output_error(matrix, restore(stored[name], torch.float32), hessians[name])
        for name, matrix in weights.items()
        if name in hessians and matrix.ndim == 2
    }
    worst = sorted(shares, key=lambda name: (-shares[name], name))[: config.low_rank_tensors]
    factors: dict[str, Stored] = {}
    for name in sorted(worst):
        left, right = _factors(weights[name], stored[name], hessians[name], config.low_rank)
        for suffix, factor in ((LEFT_SUFFIX, left), (RIGHT_SUFFIX, right)):
            factors[name + suffix] = Quantized(*quantize_absmax(factor, FACTOR_BITS), FACTOR_BITS)
    return factors


def output_error(weights: torch.Tensor, approximate: torch.Tensor, hessian: torch.Tensor) -> float:
    """Squared error of a matrix's outputs divided by their sum of squares, over the inputs of its Hessian."""
    matrix = weights.to(hessian.device)
    error = matrix - approximate.to(hessian.device)
    total = float(((matrix @ hessian) * matrix).sum(dtype=torch.float64))
    return float(((error @ hessian) * error).sum(dtype=torch.float64)) / total if total > 0 else 0.0


def _factors(
    weights: torch.Tensor, stored: Stored, hessian: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors `[r, rows]` and `[r, cols]` float32 of balanced size whose product reduces the output error the most."""
    error = (weights.to(hessian.device) - restore(stored, torch.float32, hessian.device)).double()
    damped = hessian.double()
    diagonal = torch.diagonal(damped)
    diagonal += DAMPING * diagonal.mean().clamp_min(torch.finfo(torch.float32).tiny)
    lower = torch.linalg.cholesky(damped)
    # With H = L L^T the output error is |E L|: the factors are its singular vectors, mapped back through L.
    u, s, vt = torch.linalg.svd(error @ lower, full_matrices=False)
    root = s[:rank].sqrt()
    left = (u[:, :rank] * root).T
    right = torch.linalg.solve_triangular(lower, root[:, None] * vt[:rank], upper=False, left=False)
    balance = (left.norm(dim=1) / right.norm(dim=1).clamp_min(1e-30)).sqrt().clamp_min(1e-30)[:, None]
    return (left / balance).float().cpu().contiguous(), (right * balance).float().cpu().contiguous()
