"""relu^2 MLP in plain PyTorch: the definition of the op, and its CPU path."""

import torch
from torch.nn import functional as F


def relu2_mlp(x: torch.Tensor, w_up: torch.Tensor, w_down: torch.Tensor) -> torch.Tensor:
    """`relu(x @ w_up.T)^2 @ w_down.T`; shapes as in `golf_fast.ops.relu2_mlp`."""
    return F.linear(F.relu(F.linear(x, w_up)).square(), w_down)
