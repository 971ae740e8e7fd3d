"""The squared-ReLU MLP of a block (So et al., Primer, arXiv 2109.08668)."""

from __future__ import annotations

from typing import Literal

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import product_dtypes, refuse, require_dtype, require_like, takes_more
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.relu2_mlp import operators, reference

OP = "relu2_mlp"

backends.register(
    OP,
    backends.Candidate("triton", "the activation runs in the epilogues of its GEMMs", triton_obstacle, ("cpu",)),
    passes.candidate("norm and activation in one pass"),
    backends.REFERENCE,
)


def relu2_mlp(
    x: torch.Tensor,
    w_up: torch.Tensor,
    w_down: torch.Tensor,
    rstd: torch.Tensor | None = None,
    negative_slope: float = 0.0,
) -> torch.Tensor:
    """`act(rstd * (x @ w_up.T)) @ w_down.T` with `act(p) = max(p, negative_slope * p)^2`.

    `rstd` is the row factor of a gainless RMS norm, which commutes with the product: `x` need not be normalised, and
    the normalised tensor is never written.

    Args:
        x: `[..., D]`, any floating dtype.
        w_up: `[hidden, D]`, the dtype of `x`.
        w_down: `[D, hidden]`, the dtype of `x`.
        rstd: `[...]`, float32, differentiable; None: 1.
        negative_slope: 0 for relu^2; 0.5 for the squared LeakyReLU, which keeps one tensor more for the backward.

    Returns:
        `[..., D]`, the dtype of `x`.

    Saves `post = act(...)` `[..., hidden]` (with a slope also the argument of act) and the inputs.

    Raises:
        ValueError: shapes, dtypes, devices or memory layouts that the op or the chosen backend does not take. The
            Triton kernels take bfloat16 or float16 (in the interpreter also float32), contiguous matrices, and D and
            hidden that are multiples of 64.
    """
    backend = passes.resolve(OP, x)
    _check(x, w_up, w_down, rstd, negative_slope, backend == "triton")
    if backend == "reference":
        return reference.relu2_mlp(x, w_up, w_down, rstd, negative_slope)
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    factors = None if rstd is None else rstd.reshape(-1).contiguous()
    out: torch.Tensor = operators.forward(rows, w_up, w_down, factors, negative_slope)[0]
    return out.view(x.shape)


def _check(
    x: torch.Tensor,
    w_up: torch.Tensor,
    w_down: torch.Tensor,
    rstd: torch.Tensor | None,
    negative_slope: float,
    for_triton: bool,
) -> None:
    if for_triton:
        require_dtype(OP, "x", x.dtype, product_dtypes(x.device), "reference")
    if w_up.ndim != 2 or x.ndim < 1 or w_up.shape[1] != x.shape[-1]:
        refuse(OP, f"w_up is {tuple(w_up.shape)}", f"[hidden, D], with the D of x, which is {tuple(x.shape)}")
    hidden, width = w_up.shape
    layout: Literal["any", "contiguous"] = "contiguous" if for_triton else "any"
    require_like(OP, "w_up", w_up, x, layout=layout)
    require_like(OP, "w_down", w_down, x, shape=(width, hidden), layout=layout)
    if rstd is not None:
        of_norm = torch.float64 if x.dtype == torch.float64 else torch.float32
        require_like(OP, "rstd", rstd, x, shape=x.shape[:-1], dtype=of_norm)
    if not 0 <= negative_slope < 1:
        refuse(OP, f"negative_slope is {negative_slope}", "at least 0 and below 1")
    if for_triton and (width % 64 or hidden % 64):
        refuse(OP, f"w_up is {(hidden, width)}", "of multiples of 64" + takes_more(OP, "reference"))
