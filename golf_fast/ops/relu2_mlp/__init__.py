"""The squared-ReLU MLP of a block (So et al., Primer, arXiv 2109.08668)."""

import torch

from golf_fast.ops import backends
from golf_fast.ops.launch import require, triton_obstacle
from golf_fast.ops.relu2_mlp import reference

backends.register(
    "relu2_mlp",
    backends.Candidate("triton", "the activation runs in the epilogues of its GEMMs", triton_obstacle, ("cpu",)),
    backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere),
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
        ValueError: shapes, dtypes, devices or memory layouts that the Triton kernels do not take. They take bfloat16 or
            float16 (in the interpreter also float32), and D and hidden that are multiples of 64.
    """
    if backends.resolve("relu2_mlp", x.device).name == "reference":
        return reference.relu2_mlp(x, w_up, w_down, rstd, negative_slope)
    from golf_fast.ops.relu2_mlp import triton

    _check(x, w_up, w_down, rstd, negative_slope)
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    factors = None if rstd is None else rstd.reshape(-1).contiguous()
    out: torch.Tensor = triton.forward(rows, w_up, w_down, factors, negative_slope)[0]
    return out.view(x.shape)


def _check(
    x: torch.Tensor, w_up: torch.Tensor, w_down: torch.Tensor, rstd: torch.Tensor | None, negative_slope: float
) -> None:
    op = "relu2_mlp"
    hidden, width = w_up.shape
    allowed = (torch.bfloat16, torch.float16) if x.is_cuda else (torch.bfloat16, torch.float16, torch.float32)
    require(x.dtype in allowed, op, f"x is {x.dtype}", " or ".join(map(str, allowed)))
    require(x.shape[-1] == width, op, f"the last dimension of x is {x.shape[-1]}", f"that of w_up, {width}")
    require(w_down.shape == (width, hidden), op, f"w_down is {tuple(w_down.shape)}", f"{(width, hidden)}")
    require(width % 64 == 0 and hidden % 64 == 0, op, f"w_up is {(hidden, width)}", "of multiples of 64")
    require(0 <= negative_slope < 1, op, f"negative_slope is {negative_slope}", "at least 0 and below 1")
    for name, tensor in (("w_up", w_up), ("w_down", w_down)):
        require(tensor.dtype == x.dtype, op, f"{name} is {tensor.dtype}", f"the dtype of x, {x.dtype}")
        require(tensor.device == x.device, op, f"{name} is on {tensor.device}", f"where x is, {x.device}")
        require(tensor.is_contiguous(), op, f"{name} has strides {tensor.stride()}", "contiguous")
    if rstd is not None:
        require(rstd.shape == x.shape[:-1], op, f"rstd is {tuple(rstd.shape)}", f"{tuple(x.shape[:-1])}")
        require(rstd.dtype == torch.float32, op, f"rstd is {rstd.dtype}", "float32")
        require(rstd.device == x.device, op, f"rstd is on {rstd.device}", f"where x is, {x.device}")
