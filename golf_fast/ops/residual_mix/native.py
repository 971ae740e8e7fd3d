"""The beginning of a block in one pass over its rows in C++, and its backward in another."""

from __future__ import annotations

import torch

from golf_fast.ops import passes


def programs(x: torch.Tensor) -> int:
    """How many parts the sums over the rows of `x` `[..., D]` come in: the first size of `parts`."""
    return passes.parts(x.numel() // x.shape[-1])


def forward(
    x: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    branch: torch.Tensor | None,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
    eps: float,
    stream: torch.Tensor | None,
    mixed: torch.Tensor,
    normed: torch.Tensor,
    rstd: torch.Tensor,
) -> None:
    """Write `mixed`, `normed`, `rstd` and, unless None, `stream`."""
    written = (stream, mixed, normed, rstd)
    passes.run("residual_mix", x, x, x0, mix, branch, skip, skip_weight, *written, *passes.rows(x), eps)


def backward(
    d_mixed: torch.Tensor,
    d_normed: torch.Tensor,
    d_out: torch.Tensor | None,
    stream: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    rstd: torch.Tensor,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
    d_stream: torch.Tensor,
    d_x0: torch.Tensor,
    d_skip: torch.Tensor | None,
    parts: torch.Tensor,
) -> None:
    """Write `d_stream`, `d_x0`, with a skip `d_skip`, and `parts` `[programs, 2 or 3, D]`, still to be summed."""
    given = (d_mixed, d_normed, d_out, stream, x0, mix, rstd, skip, skip_weight)
    written = (d_stream, d_x0, d_skip, parts)
    passes.run("residual_mix_gradient", stream, *given, *written, *passes.rows(stream))
