"""Quantiles with linear interpolation, as `torch.quantile` defines them, of tensors of any size."""

import numpy as np
import torch

TORCH_LIMIT = 16_000_000
"""Greatest number of elements that `torch.quantile` accepts; for more, two order statistics are selected instead."""


def quantile(values: torch.Tensor, q: float) -> torch.Tensor:
    """The `q` quantile of all elements of a float32 tensor, as a float32 scalar tensor.

    Up to `TORCH_LIMIT` elements it is `torch.quantile` itself, which rounds the position to float32. For more elements
    float32 is too coarse, and the position is computed in float64.
    """
    flat = values.reshape(-1)
    if flat.numel() <= TORCH_LIMIT:
        return torch.quantile(flat, q)
    position = q * (flat.numel() - 1)
    below = int(position)
    above = min(below + 1, flat.numel() - 1)
    # NumPy's selection takes linear time for any order of the elements; torch.kthvalue is quadratic for some.
    selected = np.partition(flat.cpu().numpy(), (below, above))
    return torch.lerp(torch.tensor(selected[below]), torch.tensor(selected[above]), position - below).to(flat.device)


def row_quantiles(values: torch.Tensor, q: float) -> torch.Tensor:
    """The `q` quantile of each row of a float32 [rows, cols] tensor, float32 [rows]."""
    rows_at_once = TORCH_LIMIT // values.shape[1]
    if rows_at_once == 0:
        return torch.stack([quantile(row, q) for row in values])
    return torch.cat([torch.quantile(part, q, dim=1) for part in torch.split(values, rows_at_once)])
