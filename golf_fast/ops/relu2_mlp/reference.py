"""relu^2 MLP in plain PyTorch: the definition of the op."""

import torch
from torch.nn import functional as F


def relu2_mlp(
    x: torch.Tensor,
    w_up: torch.Tensor,
    w_down: torch.Tensor,
    rstd: torch.Tensor | None = None,
    negative_slope: float = 0.0,
) -> torch.Tensor:
    """`act(rstd * x @ w_up.T) @ w_down.T`; shapes as in `golf_fast.ops.relu2_mlp`."""
    return F.linear(hidden(x, w_up, rstd, negative_slope), w_down)


def hidden(
    x: torch.Tensor, w_up: torch.Tensor, rstd: torch.Tensor | None = None, negative_slope: float = 0.0
) -> torch.Tensor:
    """`act(rstd * x @ w_up.T)` `[..., hidden]`: what the second product takes."""
    if rstd is not None:
        x = (x * rstd[..., None]).to(x.dtype)
    pre = F.linear(x, w_up)
    active = F.leaky_relu(pre, negative_slope) if negative_slope else F.relu(pre)
    return active.square()
