"""A matrix product added to the residual stream, and the RMS-norm factor of the sum."""

from __future__ import annotations

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import product_dtypes, refuse, require_dtype, require_like, takes_more
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.linear_residual import operators, reference

OP = "linear_residual"

backends.register(
    OP,
    backends.Candidate(
        "triton",
        "the sum and the norm's factor come out of the epilogue of its GEMM; not yet timed on a GPU against cuBLAS "
        "and a pass of the compiler",
        triton_obstacle,
        ("cpu",),
    ),
    passes.candidate("sum and factor in one pass"),
    backends.REFERENCE,
)


def linear_residual(x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`out = residual + x @ w.T` and `rstd = 1 / sqrt(mean(out^2) + eps)`, the factor of a gainless RMS norm of `out`.

    Unfused, the product is written to memory, and a further pass reads it and the residual to write `out`. The row
    factor is an argument of `relu2_mlp`: the norm commutes with the matrix product that follows it.

    Args:
        x: `[..., K]`, any floating dtype.
        w: `[D, K]`, the dtype of `x`.
        residual: `[..., D]`, the dtype of `x`.

    Returns:
        out `[..., D]`, the dtype of `x`, and rstd `[...]` float32 (float64 for float64). Both are differentiable. The
        epsilon is that of float32, 1.1920929e-07, the mean square is in float32.

    The Triton kernel adds in float32, squares the sum and rounds it once, where the reference rounds the product, then
    the sum, and squares that. It saves `x`, `w` and both results; the backward is two plain products and, for the
    gradient of rstd, what the compiler makes of it.

    Raises:
        ValueError: shapes, dtypes, devices or memory layouts that the op or the chosen backend does not take. The
            Triton kernel takes bfloat16 or float16 (in the interpreter also float32), a contiguous `w`, and K and D
            that are multiples of 64.
    """
    backend = passes.resolve(OP, x)
    _check(x, w, residual, backend == "triton")
    if backend == "reference":
        return reference.linear_residual(x, w, residual)
    out, rstd = operators.forward(_rows(x), w, _rows(residual))
    return out.view(residual.shape), rstd.view(residual.shape[:-1])


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()


def _check(x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor, for_triton: bool) -> None:
    if for_triton:
        require_dtype(OP, "x", x.dtype, product_dtypes(x.device), "reference")
    if w.ndim != 2 or x.ndim < 1 or w.shape[1] != x.shape[-1]:
        refuse(OP, f"w is {tuple(w.shape)}", f"[D, K], with the K of x, which is {tuple(x.shape)}")
    require_like(OP, "w", w, x, layout="contiguous" if for_triton else "any")
    require_like(OP, "residual", residual, x, shape=(*x.shape[:-1], w.shape[0]))
    if for_triton and any(size == 0 or size % 64 for size in w.shape):
        refuse(OP, f"w is {tuple(w.shape)}", "of multiples of 64" + takes_more(OP, "reference"))
