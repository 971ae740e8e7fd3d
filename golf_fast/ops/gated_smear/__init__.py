"""The gated smear: adds a share of the previous position to each position, with a gate that reads its first
channels."""

from __future__ import annotations

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import refuse, require_like
from golf_fast.ops.gated_smear import operators, reference

OP = "gated_smear"

backends.register(
    OP,
    passes.candidate("a pass over its rows each way"),
    backends.PLAIN,
    backends.REFERENCE,
)


def gated_smear(
    x: torch.Tensor, gate: torch.Tensor, share: torch.Tensor, begins: torch.Tensor | None = None
) -> torch.Tensor:
    """Add `share * sigmoid(gate . x[i][:n]) * x[i-1]` to each position `x[i]`.

    Args:
        x: `[B, T, D]`, any floating dtype.
        gate: `[1, n]` with n from 1 to D, the dtype of `x`.
        share: `[1]`, the dtype of `x`.
        begins: `[B, T]` bool: positions to which, like the first, nothing is added; None: there are no others.

    Returns:
        A tensor in the shape and dtype of `x`.

    In C++ it computes in float32 and rounds once, where the reference rounds after every operation, and saves the
    arguments and the sigmoids `[B, T]` float32.

    Raises:
        ValueError: shapes, dtypes or devices that the op does not take.
    """
    if x.ndim != 3:
        refuse(OP, f"x is {tuple(x.shape)}", "[B, T, D]")
    if not x.is_floating_point():
        refuse(OP, f"x is {x.dtype}", "of a floating dtype")
    channels = gate.shape[-1] if gate.ndim else 0
    if not 1 <= channels <= x.shape[2]:
        refuse(OP, f"gate is {tuple(gate.shape)}", f"[1, n] with n from 1 to {x.shape[2]}")
    require_like(OP, "gate", gate, x, shape=(1, channels))
    require_like(OP, "share", share, x, shape=(1,))
    if begins is not None:
        require_like(OP, "begins", begins, x, shape=x.shape[:2], dtype=torch.bool)
    if passes.resolve(OP, x) != "native":
        return reference.gated_smear(x, gate, share, begins)
    begins = None if begins is None else begins.contiguous()
    out: torch.Tensor = operators.forward(x.contiguous(), gate.contiguous(), share, begins)[0]
    return out
