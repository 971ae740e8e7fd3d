"""The mixing of the two residual streams after a block with lanes: each keeps a part of itself and adds shares of the
outputs of attention and of the MLP."""

from __future__ import annotations

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import refuse, require_like
from golf_fast.ops.lane_mix import operators, reference

OP = "lane_mix"

backends.register(
    OP,
    passes.candidate("a pass over its rows each way"),
    backends.PLAIN,
    backends.REFERENCE,
)


def lane_mix(
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`kept[i] * stream + shares[i, 0] * attended + shares[i, 1] * hidden` for the streams i = 0 and 1.

    Args:
        first: `[..., D]`, the stream of attention; any floating dtype.
        second: the stream of the MLP, in the shape and dtype of `first`.
        attended: the output of attention, in the shape and dtype of `first`.
        hidden: the output of the MLP, in the shape and dtype of `first`.
        kept: `[2, D]`, the dtype of `first`.
        shares: `[2, 2]`, the dtype of `first`.

    Returns:
        Both streams, in the shape and dtype of `first`.

    In C++ it computes in float32 and rounds once, where the reference rounds after every operation, and saves the
    arguments.

    Raises:
        ValueError: shapes, dtypes or devices that the op does not take.
    """
    if first.ndim < 1:
        refuse(OP, f"first is {tuple(first.shape)}", "[..., D]")
    if not first.is_floating_point():
        refuse(OP, f"first is {first.dtype}", "of a floating dtype")
    for name, tensor in (("second", second), ("attended", attended), ("hidden", hidden)):
        require_like(OP, name, tensor, first, "first", shape=first.shape)
    require_like(OP, "kept", kept, first, "first", shape=(2, first.shape[-1]))
    require_like(OP, "shares", shares, first, "first", shape=(2, 2))
    given = first, second, attended, hidden, kept, shares
    if passes.resolve(OP, first) != "native":
        return reference.lane_mix(*given)
    one, two = operators.forward(*(tensor.contiguous() for tensor in given))
    return one, two
