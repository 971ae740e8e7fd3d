"""Newton-Schulz: approximate orthogonalization of matrices, as used by Muon."""

from __future__ import annotations

from typing import get_args

import torch

from golf_fast.ops import backends
from golf_fast.ops.checks import product_dtypes, refuse, require_dtype
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.newton_schulz import baddbmm, operators, reference
from golf_fast.ops.newton_schulz.reference import Coefficients

OP = "newton_schulz"

backends.register(
    OP,
    backends.Candidate("triton", "symmetric products compute one triangle", triton_obstacle, ("cpu",)),
    backends.Candidate(
        "added",
        "sums are added within the products, on a CPU",
        lambda kind: None if kind == "cpu" else "made for a CPU",
    ),
    backends.REFERENCE,
)


def newton_schulz(
    bank: torch.Tensor,
    iterations: int = 5,
    dtype: torch.dtype = torch.bfloat16,
    coefficients: Coefficients = "quintic",
) -> torch.Tensor:
    """Replace each matrix of a bank by one with (nearly) the same singular vectors and singular values near 1.

    After division by the Frobenius norm plus 1e-7: `A = X X^T`, `X <- a X + (b A + c A A) X`; tall matrices are
    transposed for it.

    Args:
        bank: `[n, rows, cols]`, any floating dtype; not differentiable.
        iterations: number of iterations.
        dtype: dtype of the iterations.
        coefficients: "quintic": a, b, c = 3.4445, -4.7750, 2.0315 each time (Muon, Jordan et al., 2024), singular
            values end between about 0.7 and 1.2. "polar_express": a triple for each iteration, the best for singular
            values down to 1e-3 of the norm (Amsel et al., arXiv 2505.16932). "polar_express_published": five such
            triples as the top submission of the challenge has them.

    Returns:
        `[n, rows, cols]` in `dtype`. Saves nothing.

    Raises:
        ValueError: `bank` is no bank of matrices of a floating dtype, `iterations` or `coefficients` is unknown, or the
            Triton kernels do not take `dtype`: they take bfloat16 or float16 (in the interpreter also float32).
    """
    if bank.ndim != 3:
        refuse(OP, f"bank is {tuple(bank.shape)}", "[n, rows, cols]")
    if not bank.is_floating_point():
        refuse(OP, f"bank is {bank.dtype}", "of a floating dtype")
    if iterations < 0:
        refuse(OP, f"iterations is {iterations}", "at least 0")
    if coefficients not in get_args(Coefficients):
        refuse(OP, f"coefficients is {coefficients!r}", " or ".join(map(repr, get_args(Coefficients))))
    backend = backends.resolve(OP, bank.device).name
    if backend == "added":
        return baddbmm.newton_schulz(bank, iterations, dtype, coefficients)
    if backend == "reference":
        return reference.newton_schulz(bank, iterations, dtype, coefficients)
    require_dtype(OP, "dtype", dtype, product_dtypes(bank.device), "reference")
    return operators.newton_schulz(bank, iterations, dtype, coefficients)
