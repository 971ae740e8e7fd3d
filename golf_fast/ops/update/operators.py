"""The factors and the momentum of an update as operators of torch.library."""

from __future__ import annotations

import torch


@torch.library.custom_op("golf_fast::update_factors", mutates_args=())
def factors(
    found: torch.Tensor, doubt: torch.Tensor, grad_clip: float, squares: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The new doubt, ok, failed and clip of contiguous `found` `[n + 1]`."""
    from golf_fast.ops.update import triton

    out = _factors(found, doubt)
    triton.factors(found, doubt, grad_clip, squares, *out)()
    return out


def _factors(found: torch.Tensor, doubt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return doubt.new_empty(()), doubt.new_empty((), dtype=torch.bool), doubt.new_empty(()), found.new_empty(())


@factors.register_fake
def _(
    found: torch.Tensor, doubt: torch.Tensor, grad_clip: float, squares: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _factors(found, doubt)


@torch.library.custom_op("golf_fast::nesterov", mutates_args=("momentum",))
def nesterov(
    gradient: torch.Tensor, momentum: torch.Tensor, mu: float, clip: torch.Tensor | None, failed: torch.Tensor | None
) -> torch.Tensor:
    """The direction of contiguous tensors of one shape."""
    from golf_fast.ops.update import triton

    direction = torch.empty_like(gradient)
    if gradient.numel():
        triton.nesterov(gradient, momentum, mu, clip, failed, direction)()
    return direction


@nesterov.register_fake
def _(
    gradient: torch.Tensor, momentum: torch.Tensor, mu: float, clip: torch.Tensor | None, failed: torch.Tensor | None
) -> torch.Tensor:
    return torch.empty_like(gradient)
