"""The beginning of a block: residual and skip additions, mixing with the embedding, and the norm before attention."""

from __future__ import annotations

from typing import Literal

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import KERNEL_DTYPES, refuse, require_dtype, require_like, takes_more
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.residual_mix import operators, reference

OP = "residual_mix"

backends.register(
    OP,
    backends.Candidate(
        "triton",
        "its backward sums over tokens in the pass that takes the norm back; not yet timed on a GPU against the "
        "compiler's kernels",
        triton_obstacle,
        ("cpu",),
    ),
    passes.candidate("a pass over its rows each way"),
    backends.REFERENCE,
)


def residual_mix(
    x: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    branch: torch.Tensor | None = None,
    skip: torch.Tensor | None = None,
    skip_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`stream = x + branch + skip_weight * skip`, `mixed = mix[0] * stream + mix[1] * x0`, `normed = rms_norm(mixed)`.

    `mixed` is the residual stream of the block, `normed` the input of its attention. The mixing with the embedding and
    the skips are those of seed.md section 3; the norm is RMS norm without a gain (Zhang and Sennrich, arXiv
    1910.07467).

    Args:
        x: `[..., D]`, any floating dtype.
        x0: the embedding, in the shape and dtype of `x`.
        mix: `[2, D]`, the dtype of `x`.
        branch: the output of the previous block's MLP, in the shape and dtype of `x`; None: 0.
        skip: the output of an earlier block, in the shape and dtype of `x`; None: 0.
        skip_weight: `[D]`, the dtype of `x`; given if and only if `skip` is.

    Returns:
        stream, mixed and normed, each as `x`; stream is `x` itself if there is nothing to add. The epsilon of the norm
        is that of float32, 1.1920929e-07, its mean square is in float32.

    The kernels compute in float32 and round each of the three once, where the reference rounds after every operation.
    They save stream, `x0`, `skip`, the vectors and the factors of the norm `[...]` in float32, and compute mixed and
    normed again in the backward. Those in Triton take contiguous float32, bfloat16 and float16 with D up to 4096.

    Raises:
        ValueError: shapes, dtypes, devices or strides that the op or the chosen backend does not take.
    """
    backend = passes.resolve(OP, x)
    _check(x, x0, mix, branch, skip, skip_weight, backend == "triton")
    if backend == "reference":
        return reference.residual_mix(x, x0, mix, branch, skip, skip_weight)
    if backend == "native":
        x, x0, mix = x.contiguous(), x0.contiguous(), mix.contiguous()
        branch, skip, skip_weight = (None if t is None else t.contiguous() for t in (branch, skip, skip_weight))
    stream, mixed, normed, _ = operators.forward(x, x0, mix, branch, skip, skip_weight)
    return x if branch is None and skip is None else stream, mixed, normed


def _check(
    x: torch.Tensor,
    x0: torch.Tensor,
    mix: torch.Tensor,
    branch: torch.Tensor | None,
    skip: torch.Tensor | None,
    skip_weight: torch.Tensor | None,
    for_triton: bool,
) -> None:
    if x.ndim < 1:
        refuse(OP, f"x is {tuple(x.shape)}", "[..., D]")
    if (skip is None) != (skip_weight is None):
        given = "missing" if skip_weight is None else "given"
        refuse(OP, f"skip_weight is {given}", "given where skip is, and only there")
    width = x.shape[-1]
    layout: Literal["any", "contiguous"] = "contiguous" if for_triton else "any"
    if for_triton:
        require_dtype(OP, "x", x.dtype, KERNEL_DTYPES, "reference")
        if not 0 < width <= 4096:
            refuse(OP, f"the last dimension of x is {width}", "1 to 4096" + takes_more(OP, "reference"))
        if x.numel() // width > 2**30:
            refuse(OP, f"x is {tuple(x.shape)}", "of at most 2^30 rows")
        require_like(OP, "x", x, x, layout=layout)
    for name, tensor in (("x0", x0), ("branch", branch), ("skip", skip)):
        if tensor is not None:
            require_like(OP, name, tensor, x, shape=x.shape, layout=layout)
    require_like(OP, "mix", mix, x, shape=(2, width), layout=layout)
    if skip_weight is not None:
        require_like(OP, "skip_weight", skip_weight, x, shape=(width,), layout=layout)
