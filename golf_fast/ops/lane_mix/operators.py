"""The streams after a block with lanes as operators of torch.library, so that torch.compile keeps the passes whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes


@torch.library.custom_op("golf_fast::lane_mix_forward", mutates_args=())
def forward(
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both streams; all arguments are contiguous, and saved."""
    one, two = torch.empty_like(first), torch.empty_like(first)
    if first.numel():
        given = first, second, attended, hidden, kept, shares
        passes.run("lane_mix", first, *given, one, two, *passes.rows(first))
    return one, two


@forward.register_fake
def _(
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(first), torch.empty_like(first)


@torch.library.custom_op("golf_fast::lane_mix_backward", mutates_args=())
def backward(
    d_one: torch.Tensor,
    d_two: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the streams and outputs, and of kept and shares side by side, `[2 D + 4]` float32, a sum of parts in
    a fixed order."""
    made = _gradients(first)
    of_rows, of_weights = made[:4], made[4]
    if not first.numel():
        return *of_rows, of_weights.zero_()
    # The gradient of a sum or a mean is one number with strides of zero.
    given = d_one.contiguous(), d_two.contiguous(), first, second, attended, hidden, kept, shares
    rows, width = passes.rows(first)
    parts = of_weights.new_empty(passes.parts(rows), of_weights.numel())
    passes.run("lane_mix_gradient", first, *given, *of_rows, parts, rows, width)
    return *of_rows, parts.sum(0)


def _gradients(first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b, c, d = (torch.empty_like(first) for _ in range(4))
    return a, b, c, d, first.new_empty(2 * first.shape[-1] + 4, dtype=torch.float32)


@backward.register_fake
def _(
    d_one: torch.Tensor,
    d_two: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _gradients(first)


def _setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, d_one: torch.Tensor, d_two: torch.Tensor) -> tuple[torch.Tensor, ...]:
    *of_rows, of_weights = backward(d_one, d_two, *ctx.saved_tensors)
    kept, shares = ctx.saved_tensors[4:]
    d_kept, d_shares = of_weights.to(kept.dtype).split([kept.numel(), shares.numel()])
    return *of_rows, d_kept.view(kept.shape), d_shares.view(shares.shape)


forward.register_autograd(_backward, setup_context=_setup_context)
