"""RMS norm, rotary embedding and gain of queries and keys, between projection and attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import KERNEL_DTYPES, refuse, require_dtype, require_like, takes_more
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.qk_norm_rope import operators, reference

OP = "qk_norm_rope"

backends.register(
    OP,
    backends.Candidate(
        "triton",
        "reads and writes q and k once each way; not yet timed on a GPU against the compiler's kernels",
        triton_obstacle,
        ("cpu",),
    ),
    passes.candidate("a pass over queries and keys each way"),
    backends.REFERENCE,
)


def qk_norm_rope(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS-normalise each head, rotate it by its position (Su et al., RoFormer, arXiv 2104.09864), scale the queries.

    Args:
        q: `[B, T, heads, head_dim]`, any floating dtype.
        k: `[B, T, kv_heads, head_dim]`, the dtype of `q`. It may have more positions than `q`, whose positions are then
            the last of them.
        gain: `[heads]`, multiplies the queries; the dtype of `q`.
        cos: `[T, pairs]`, cosine of position times frequency, not differentiable; the dtype of `q`. Dimension i is
            rotated with i + pairs, dimensions from 2 * pairs on are not; pairs is head_dim / 2 for the full rotation.
        sin: `[T, pairs]`, the sine, likewise.

    Returns:
        The new q and k, in their shapes and dtypes, contiguous from Triton. The epsilon of the norm is that of float32,
        1.1920929e-07, its mean square is in float32.

    The Triton kernels compute in float32 and round once, where the reference rounds after every operation. They save
    the arguments, and take float32, bfloat16 and float16 of any even head dim up to 256 with a last stride of 1. Where
    `q` has fewer positions than `k`, they compute zeros in the place of the others.

    Raises:
        ValueError: shapes, dtypes, devices or strides that the op or the chosen backend does not take.
    """
    backend = passes.resolve(OP, q)
    check(q, k, gain, cos, sin, backend == "triton")
    if backend == "triton":
        missing = k.shape[1] - q.shape[1]
        q_out, k_out = operators.forward(F.pad(q, (0, 0, 0, 0, missing, 0)) if missing else q, k, gain, cos, sin)
        return q_out[:, missing:], k_out
    if backend == "native":
        q, k = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k))
        q_out, k_out = operators.forward(q, k, gain.contiguous(), cos.contiguous(), sin.contiguous())
        return q_out, k_out
    return reference.qk_norm_rope(q, k, gain, cos, sin)


def check(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, for_triton: bool
) -> None:
    """Raise a ValueError unless the op (and, if `for_triton`, its Triton kernels) support the arguments."""
    if q.ndim != 4:
        refuse(OP, f"q is {tuple(q.shape)}", "[B, T, heads, head_dim]")
    rows, length, heads, head_dim = q.shape
    if k.ndim != 4:
        refuse(OP, f"k is {tuple(k.shape)}", "[B, T, kv_heads, head_dim]")
    length = max(length, k.shape[1])
    if cos.ndim != 2:
        refuse(OP, f"cos is {tuple(cos.shape)}", "[T, pairs]")
    if not 1 <= cos.shape[1] <= head_dim // 2:
        refuse(OP, f"cos has {cos.shape[1]} pairs", f"1 to {head_dim // 2}")
    of_rows: Literal["any", "rows"] = "rows" if for_triton else "any"
    layout: Literal["any", "contiguous"] = "contiguous" if for_triton else "any"
    require_like(OP, "q", q, q, "q", layout=of_rows)
    require_like(OP, "k", k, q, "q", shape=(rows, length, k.shape[2], head_dim), layout=of_rows)
    require_like(OP, "gain", gain, q, "q", shape=(heads,), layout=layout)
    require_like(OP, "cos", cos, q, "q", shape=(length, cos.shape[1]), layout=layout)
    require_like(OP, "sin", sin, q, "q", shape=cos.shape, layout=layout)
    if cos.requires_grad or sin.requires_grad:
        refuse(OP, "cos or sin requires a gradient", "a constant")
    if for_triton:
        require_dtype(OP, "q", q.dtype, KERNEL_DTYPES, "reference")
        if head_dim > 256:
            refuse(OP, f"head_dim is {head_dim}", "at most 256" + takes_more(OP, "reference"))
        if rows * length >= 2**31:
            refuse(OP, f"q is {tuple(q.shape)}", "of less than 2^31 tokens")
