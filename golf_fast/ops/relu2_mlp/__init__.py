"""The squared-ReLU MLP of a block (So et al., Primer, arXiv 2109.08668)."""

import torch

from golf_fast.ops import backends
from golf_fast.ops.relu2_mlp import reference

backends.register("relu2_mlp", backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere))


def relu2_mlp(x: torch.Tensor, w_up: torch.Tensor, w_down: torch.Tensor) -> torch.Tensor:
    """`relu(x @ w_up.T)^2 @ w_down.T`.

    Args:
        x: `[..., D]`, any floating dtype.
        w_up: `[hidden, D]`, the dtype of `x`.
        w_down: `[D, hidden]`, the dtype of `x`.

    Returns:
        `[..., D]`, the dtype of `x`.
    """
    return reference.relu2_mlp(x, w_up, w_down)
