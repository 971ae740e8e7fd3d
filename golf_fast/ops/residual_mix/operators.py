"""The beginning of a block as operators of torch.library, so that torch.compile keeps them whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes
from golf_fast.ops.rms_norm.reference import EPS

OP = "residual_mix"


@torch.library.custom_op("golf_fast::residual_mix_forward", mutates_args=())
def forward(
    x: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    branch: torch.Tensor | None,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """stream (of no elements if nothing is added to `x`), mixed, normed, and the row factors of the norm for the
    backward, float32."""
    stream, mixed, normed, rstd = _outputs(x, branch, skip)
    if not x.numel():
        return stream, mixed, normed, rstd
    given = (x, x0, mix, branch, skip, skip_weight)
    written = (None if branch is None and skip is None else stream, mixed, normed, rstd)
    if passes.chosen(OP, x):
        passes.run("residual_mix", x, *given, *written, *passes.rows(x), EPS)
    else:
        from golf_fast.ops.residual_mix import triton

        triton.forward(*given, EPS, *written)()
    return stream, mixed, normed, rstd


def _outputs(
    x: torch.Tensor, branch: torch.Tensor | None, skip: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    stream = x.new_empty((0,) if branch is None and skip is None else x.shape)
    return stream, x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(x.shape[:-1], dtype=torch.float32)


@forward.register_fake
def _(
    x: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    branch: torch.Tensor | None,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _outputs(x, branch, skip)


@torch.library.custom_op("golf_fast::residual_mix_backward", mutates_args=())
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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the stream, of `x0`, of `skip` (of no elements without one) and of the vectors: `[2 or 3, D]`
    float32, the rows of mix and then skip_weight, the sum of one part for each program, in a fixed order.

    `d_out` is the gradient of the returned stream; None if nothing used it.
    """
    d_stream, d_x0, d_skip, d_vectors = _gradients(stream, skip)
    if not stream.numel():
        return d_stream, d_x0, d_skip, d_vectors.zero_()
    # The gradient of a sum or a mean is one number with strides of zero.
    d_mixed, d_normed = d_mixed.contiguous(), d_normed.contiguous()
    d_out = None if d_out is None else d_out.contiguous()
    given = (d_mixed, d_normed, d_out, stream, x0, mix, rstd, skip, skip_weight)
    written = (d_stream, d_x0, None if skip is None else d_skip)
    if passes.chosen(OP, stream):
        rows, width = passes.rows(stream)
        parts = d_vectors.new_empty((passes.parts(rows), *d_vectors.shape))
        passes.run("residual_mix_gradient", stream, *given, *written, parts, rows, width)
    else:
        from golf_fast.ops.residual_mix import triton

        parts = d_vectors.new_empty((triton.programs(stream), *d_vectors.shape))
        triton.backward(*given, *written, parts)()
    return d_stream, d_x0, d_skip, parts.sum(0)


def _gradients(
    stream: torch.Tensor, skip: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    d_stream, d_x0 = stream.new_empty(stream.shape), stream.new_empty(stream.shape)
    d_skip = stream.new_empty((0,) if skip is None else stream.shape)
    return d_stream, d_x0, d_skip, stream.new_empty((2 if skip is None else 3, stream.shape[-1]), dtype=torch.float32)


@backward.register_fake
def _(
    d_mixed: torch.Tensor,
    d_normed: torch.Tensor,
    d_out: torch.Tensor | None,
    stream: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    rstd: torch.Tensor,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _gradients(stream, skip)


def _setup_context(ctx: Any, inputs: tuple[torch.Tensor | None, ...], output: tuple[torch.Tensor, ...]) -> None:
    x, x0, mix, branch, skip, skip_weight = inputs
    stream, _, _, rstd = output
    ctx.has_branch, adds = branch is not None, branch is not None or skip is not None
    ctx.mark_non_differentiable(*([rstd] if adds else [stream, rstd]))
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(stream if adds else x, x0, mix, rstd, skip, skip_weight)


def _backward(
    ctx: Any,
    d_out: torch.Tensor | None,
    d_mixed: torch.Tensor | None,
    d_normed: torch.Tensor | None,
    _rstd: None,
) -> tuple[torch.Tensor | None, ...]:
    stream, x0, mix, rstd, skip, skip_weight = ctx.saved_tensors
    if d_out is None and d_mixed is None and d_normed is None:
        return (None,) * 6
    d_mixed = torch.zeros_like(stream) if d_mixed is None else d_mixed
    d_normed = torch.zeros_like(stream) if d_normed is None else d_normed
    d_stream, d_x0, d_skip, vectors = backward(d_mixed, d_normed, d_out, stream, x0, mix, rstd, skip, skip_weight)
    vectors = vectors.to(mix.dtype)
    of_skip = (None, None) if skip is None else (d_skip, vectors[2])
    return d_stream, d_x0, vectors[:2], d_stream if ctx.has_branch else None, *of_skip


forward.register_autograd(_backward, setup_context=_setup_context)
