"""Zero the smallest weights of the large matrices (seed.md section 5, step 1)."""

import torch

from golf_fast.compress.integers.quantiles import quantile
from golf_fast.config import CompressConfig


def prune(state_dict: dict[str, torch.Tensor], config: CompressConfig) -> dict[str, torch.Tensor]:
    """Set weights to zero whose magnitude is strictly below the `prune_quantile` of their matrix.

    Args:
        state_dict: tensors under public names. Only 2-D floating-point tensors of more than `prune_min_elements`
            elements are pruned (as copies); the others are returned unchanged.
        config: the settings of compression.

    Returns:
        A state dict with the same names, shapes, dtypes and devices.
    """
    return {
        name: _pruned(tensor, config) if _is_pruned(tensor, config) else tensor for name, tensor in state_dict.items()
    }


def _is_pruned(tensor: torch.Tensor, config: CompressConfig) -> bool:
    large = tensor.ndim == 2 and tensor.numel() > config.prune_min_elements
    return config.prune_quantile > 0 and large and tensor.is_floating_point()


def _pruned(tensor: torch.Tensor, config: CompressConfig) -> torch.Tensor:
    magnitudes = tensor.detach().float().abs()
    return tensor.detach().masked_fill(magnitudes < quantile(magnitudes, config.prune_quantile), 0)
