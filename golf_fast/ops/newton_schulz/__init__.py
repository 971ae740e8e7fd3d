"""Approximate orthogonalization of matrices, the heart of Muon."""

import torch

from golf_fast.ops import backends
from golf_fast.ops.launch import require, triton_obstacle
from golf_fast.ops.newton_schulz import reference
from golf_fast.ops.newton_schulz.reference import Coefficients

backends.register(
    "newton_schulz",
    backends.Candidate("triton", "symmetric products compute one triangle", triton_obstacle, ("cpu",)),
    backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere),
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
        iterations: how many times.
        dtype: what the iteration computes in.
        coefficients: "quintic": a, b, c = 3.4445, -4.7750, 2.0315 each time (Muon, Jordan et al., 2024), singular
            values end between about 0.7 and 1.2. "polar_express": a triple for each iteration, the best for singular
            values down to 1e-3 of the norm (Amsel et al., arXiv 2505.16932).

    Returns:
        `[n, rows, cols]` in `dtype`. Saves nothing.

    Raises:
        ValueError: the Triton kernels take bfloat16 or float16 (in the interpreter also float32).
    """
    if backends.resolve("newton_schulz", bank.device).name == "reference":
        return reference.newton_schulz(bank, iterations, dtype, coefficients)
    from golf_fast.ops.newton_schulz import triton

    op = "newton_schulz"
    allowed = (torch.bfloat16, torch.float16) if bank.is_cuda else (torch.bfloat16, torch.float16, torch.float32)
    require(dtype in allowed, op, f"dtype is {dtype}", " or ".join(map(str, allowed)))
    require(bank.dim() == 3, op, f"bank is {tuple(bank.shape)}", "[n, rows, cols]")
    return triton.newton_schulz(bank, iterations, dtype, coefficients)
