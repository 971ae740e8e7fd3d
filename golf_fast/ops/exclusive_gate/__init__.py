"""Exclusive self-attention and gates of heads, applied to the output of attention before the output matrix."""

from __future__ import annotations

from typing import Literal

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import KERNEL_DTYPES, refuse, require_dtype, require_like, takes_more
from golf_fast.ops.exclusive_gate import operators, reference
from golf_fast.ops.launch import triton_obstacle

OP = "exclusive_gate"

backends.register(
    OP,
    backends.Candidate(
        "triton",
        "reads and writes the heads once each way; not yet timed on a GPU against the compiler's kernels",
        triton_obstacle,
        ("cpu",),
    ),
    passes.candidate("a pass over the heads each way"),
    backends.REFERENCE,
)


def exclusive_gate(y: torch.Tensor, v: torch.Tensor | None = None, gate: torch.Tensor | None = None) -> torch.Tensor:
    """`sigmoid(gate) * (y - (y . n) n)` with `n = v / max(|v|, 1e-12)`, for each head.

    Removing the component along a position's own value leaves what the head gathered from other positions (exclusive
    self-attention, arXiv 2603.09078).

    Args:
        y: `[B, T, heads, head_dim]`, the output of attention; any floating dtype.
        v: `[B, T, kv_heads, head_dim]`, the dtype of `y`; query head h has value head `h // (heads / kv_heads)`. None:
            no component is removed.
        gate: `[B, T, heads]`, logits in the dtype of `y`; None: the factor is 1.

    Returns:
        A tensor in the shape and dtype of `y`, contiguous from Triton and from C++.

    The Triton kernels and the passes in C++ compute in float32 and round once, where the reference rounds after every
    operation. They save the arguments (of what is not contiguous in `y` and `gate` a copy). The kernels take float32,
    bfloat16 and float16 of any head dim up to 256, `v` with a last stride of 1.

    Raises:
        ValueError: shapes, dtypes, devices or strides that the op or the chosen backend does not take; neither `v` nor
            `gate`.
    """
    backend = passes.resolve(OP, y)
    check(y, v, gate, backend == "triton")
    if backend == "reference":
        return reference.exclusive_gate(y, v, gate)
    if v is not None and v.stride(3) != 1:
        v = v.contiguous()
    out: torch.Tensor = operators.forward(y.contiguous(), v, None if gate is None else gate.contiguous())
    return out


def check(y: torch.Tensor, v: torch.Tensor | None, gate: torch.Tensor | None, for_triton: bool) -> None:
    """Raise a ValueError unless the op (and, if `for_triton`, its Triton kernels) support the arguments."""
    if y.ndim != 4:
        refuse(OP, f"y is {tuple(y.shape)}", "[B, T, heads, head_dim]")
    if v is None and gate is None:
        refuse(OP, "v and gate are None", "one of them at least")
    rows, length, heads, head_dim = y.shape
    if v is not None:
        if v.ndim != 4 or v.shape[2] == 0 or heads % v.shape[2]:
            refuse(OP, f"v is {tuple(v.shape)}", f"[B, T, kv_heads, head_dim], kv_heads a divisor of {heads}")
        shape = (rows, length, v.shape[2], head_dim)
        layout: Literal["any", "rows"] = "rows" if for_triton else "any"
        require_like(OP, "v", v, y, "y", shape=shape, layout=layout)
    if gate is not None:
        require_like(OP, "gate", gate, y, "y", shape=(rows, length, heads))
    if for_triton:
        require_dtype(OP, "y", y.dtype, KERNEL_DTYPES, "reference")
        if head_dim > 256:
            refuse(OP, f"head_dim is {head_dim}", "at most 256" + takes_more(OP, "reference"))
        if rows * length * heads >= 2**31:
            refuse(OP, f"y is {tuple(y.shape)}", "of less than 2^31 heads")
