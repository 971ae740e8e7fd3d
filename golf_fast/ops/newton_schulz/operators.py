"""The symmetric product of Newton-Schulz as an operator of torch.library, and the iterations that call it."""

from __future__ import annotations

import torch

from golf_fast.ops.launch import architecture, multiprocessors
from golf_fast.ops.newton_schulz.reference import Coefficients, normalized, schedule


@torch.library.custom_op("golf_fast::symmetric_product", mutates_args=())
def symmetric_product(x: torch.Tensor, add: torch.Tensor | None, alpha: float, beta: float) -> torch.Tensor:
    """`alpha * x @ x.mT + beta * add`, `[n, size, size]`, exactly symmetric; x `[n, size, inner]` contiguous."""
    from golf_fast.ops.newton_schulz import triton

    matrices, size, _ = x.shape
    out = x.new_empty(matrices, size, size)
    if out.numel():
        tiles = triton.choose_tiles(architecture(x.device), matrices, size, multiprocessors(x.device))
        triton.product_launch(x, add, alpha, beta, out, tiles)()
    return out


@symmetric_product.register_fake
def _(x: torch.Tensor, add: torch.Tensor | None, alpha: float, beta: float) -> torch.Tensor:
    return x.new_empty(x.shape[0], x.shape[1], x.shape[1])


def newton_schulz(bank: torch.Tensor, iterations: int, dtype: torch.dtype, coefficients: Coefficients) -> torch.Tensor:
    """Arguments as in `golf_fast.ops.newton_schulz`."""
    return iterate(normalized(bank, dtype, coefficients), iterations, coefficients)


def iterate(x: torch.Tensor, iterations: int, coefficients: Coefficients) -> torch.Tensor:
    """The iterations for matrices `[n, rows, cols]` without singular values above 1, in their dtype."""
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).contiguous()
    for a, b, c in schedule(coefficients, iterations):
        gram = symmetric_product(x, None, 1.0, 0.0)
        x = torch.baddbmm(x, symmetric_product(gram, gram, c, b), x, beta=a)
    return x.mT if tall else x
