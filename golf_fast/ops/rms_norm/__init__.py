"""RMS norm without a gain (Zhang and Sennrich, arXiv 1910.07467)."""

from __future__ import annotations

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import refuse
from golf_fast.ops.rms_norm import operators, reference

OP = "rms_norm"

backends.register(
    OP,
    passes.candidate("a pass over its rows each way"),
    backends.PLAIN,
    backends.REFERENCE,
)


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    """`x / sqrt(mean(x^2) + eps)` over the last dimension, `[..., D]`, any floating dtype.

    The epsilon is that of float32, 1.1920929e-07, whatever the dtype; the mean square is in float32 (float64 for
    float64). In C++ it saves `x` and the factors of the rows `[...]` float32.

    Raises:
        ValueError: `x` has no dimension, or no floating dtype.
    """
    if x.ndim < 1:
        refuse(OP, f"x is {tuple(x.shape)}", "[..., D]")
    if not x.is_floating_point():
        refuse(OP, f"x is {x.dtype}", "of a floating dtype")
    if passes.resolve(OP, x) == "native":
        normed: torch.Tensor = operators.forward(x.contiguous())[0]
        return normed
    return reference.rms_norm(x)
