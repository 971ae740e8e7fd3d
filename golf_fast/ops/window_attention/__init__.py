"""Causal attention with grouped query heads, an optional left window and documents of any length."""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from torch.nn import functional as F

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import refuse, require_dtype, require_like, takes_more
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.window_attention import blocked, operators, reference

OP = "window_attention"
HEAD_DIMS = (32, 64, 128)
"""Head dims that the Triton kernels support."""

backends.register(
    OP,
    backends.Candidate(
        "triton",
        "the only one that skips what a window or a document hides; not yet timed on a GPU against the others",
        triton_obstacle,
        ("cpu",),
    ),
    passes.candidate("products over blocks of queries, and between them a softmax that makes no mask,", "blocked"),
    backends.Candidate(
        "blocked",
        "matrix products over blocks of queries, on a CPU faster than torch's scaled_dot_product_attention",
        lambda kind: None if kind == "cpu" else "made for a CPU",
    ),
    backends.Candidate("sdpa", "torch's scaled_dot_product_attention; a window is a mask to it", backends.anywhere),
    backends.REFERENCE,
)


@overload
def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None = None,
    *,
    cu_seqlens: torch.Tensor | None = None,
    logit_bound: float | torch.Tensor | None = None,
    return_lse: Literal[False] = False,
) -> torch.Tensor: ...


@overload
def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None = None,
    *,
    cu_seqlens: torch.Tensor | None = None,
    logit_bound: float | torch.Tensor | None = None,
    return_lse: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...


def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None = None,
    *,
    cu_seqlens: torch.Tensor | None = None,
    logit_bound: float | torch.Tensor | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention of every position to itself and the positions before it, within `window` and its document.

    Args:
        q: `[B, T, heads, head_dim]`, any floating dtype; or packed, `[T, heads, head_dim]`, as if B were 1.
        k: `[B, T, kv_heads, head_dim]`; query head h reads key/value head `h // (heads / kv_heads)`. It may have more
            positions than `q`, whose positions are then the last of them.
        v: `[B, T, kv_heads, head_dim]`, in the shape and dtype of `k`.
        window: how many positions a query sees, itself included; None: all before it. Another value does not compile
            the kernels anew (torch.compile makes it symbolic at its second value).
        cu_seqlens: `[n + 1]` int32, where each document starts, from 0 on and not falling, then where the last ends,
            in positions of `k`; T may repeat at its end, so that its size need not change. Needs B = 1. Its content is
            not checked: that would wait for the GPU. None: a row is a document.
        logit_bound: what `|q . k| * head_dim^-0.5` does not exceed (a few percent do no harm), as after normalisation
            per head: the largest gain times the root of head_dim. Up to 40 the kernels then need no running maximum;
            float16 ignores it. A number, or a float32 scalar `[]` on the device of `q`, which the kernels read there:
            then a gain that is trained needs neither a wait nor another compilation.
        return_lse: also return the log-sum-exp of the scaled scores.

    Returns:
        `[B, T, heads, head_dim]` (packed: `[T, heads, head_dim]`), the dtype of `q`, contiguous from Triton. Scores are
        scaled by `head_dim^-0.5`. With `return_lse` also `[B, heads, T]` (packed: `[heads, T]`) float32 in nats, which
        is not differentiable.

    The Triton kernels save q, k, v, the output and the log-sum-exp for the backward. They take bfloat16 and float16
    (the interpreter: float16 and float32) of head dim 32, 64 and 128 with a last stride of 1. Where `q` has fewer
    positions than `k`, they compute zeros in the place of the others.

    Raises:
        ValueError: shapes, dtypes, devices or strides that the op or the chosen backend does not take.
    """
    backend = passes.resolve(OP, q, "blocked")
    check(q, k, v, window, cu_seqlens, logit_bound, backend == "triton")
    if backend == "reference":
        return reference.window_attention(q, k, v, window, cu_seqlens=cu_seqlens, return_lse=return_lse)
    packed = q.ndim == 3
    if packed:
        q, k, v = q[None], k[None], v[None]
    if backend == "triton":
        out, lse = _triton(q, k, v, window, cu_seqlens, logit_bound)
        lse = lse * math.log(2) if return_lse else lse
    else:
        attend = {"native": _native, "blocked": blocked.window_attention, "sdpa": _sdpa}[backend]
        out = attend(q, k, v, window, cu_seqlens)
        lse = reference.log_sum_exp(q, k, window, cu_seqlens) if return_lse else out
    if packed:
        out, lse = out[0], lse[0]
    return (out, lse) if return_lse else out


def _triton(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    logit_bound: float | torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and the log-sum-exp, base 2; queries that are not there are zeros for the kernels."""
    length, queries = k.shape[1], q.shape[1]
    if queries < length:
        q = F.pad(q, (0, 0, 0, 0, length - queries, 0))
    bounds = None if cu_seqlens is None else reference.document_bounds(cu_seqlens, length)
    asked = logit_bound.detach() if isinstance(logit_bound, torch.Tensor) else None
    known = None if logit_bound is None or asked is not None else float(logit_bound)
    out, lse = operators.forward(q, k, v, bounds, length if window is None else window, known, asked)
    return out[:, length - queries :], lse[:, :, length - queries :]


def _native(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None, cu_seqlens: torch.Tensor | None
) -> torch.Tensor:
    gradient = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    out: torch.Tensor = operators.native_forward(q, k, v, window, cu_seqlens, gradient)[0]
    return out


def _sdpa(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None, cu_seqlens: torch.Tensor | None
) -> torch.Tensor:
    queries, length = q.shape[1], k.shape[1]
    windowed = window is not None and window < length
    hides = cu_seqlens is not None or windowed or 1 < queries < length  # a single query sees all keys
    # On a CPU this was no slower than writing the expanded heads, and often faster.
    grouped = {"enable_gqa": True} if q.shape[2] != k.shape[2] else {}
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=reference.visible(length, window, cu_seqlens, q.device)[length - queries :] if hides else None,
        is_causal=not hides and queries > 1,
        **grouped,
    )
    return out.transpose(1, 2)


def check(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    logit_bound: float | torch.Tensor | None,
    for_triton: bool,
) -> None:
    """Raise a ValueError unless the op (and its Triton kernels) take the arguments."""
    if q.ndim not in (3, 4):
        refuse(OP, f"q is {tuple(q.shape)}", "[B, T, heads, head_dim] or [T, heads, head_dim]")
    if k.ndim != q.ndim:
        refuse(OP, f"k is {tuple(k.shape)}", f"of as many dimensions as q, {q.ndim}")
    heads, kv_heads = q.shape[-2], k.shape[-2]
    of_rows: Literal["any", "rows"] = "rows" if for_triton else "any"
    require_like(OP, "q", q, q, "q", layout=of_rows)
    length = max(k.shape[-3], q.shape[-3])
    require_like(OP, "k", k, q, "q", shape=(*q.shape[:-3], length, kv_heads, q.shape[-1]), layout=of_rows)
    require_like(OP, "v", v, q, "q", shape=k.shape, layout=of_rows)
    if kv_heads == 0 or heads % kv_heads:
        refuse(OP, f"k has {kv_heads} heads", f"a divisor of {heads}")
    if window is not None and window < 1:
        refuse(OP, f"window is {window}", "at least 1, or None")
    if isinstance(logit_bound, torch.Tensor):
        require_like(OP, "logit_bound", logit_bound, q, "q", shape=(), dtype=torch.float32)
    elif logit_bound is not None and not logit_bound >= 0:
        refuse(OP, f"logit_bound is {logit_bound}", "at least 0, or None")
    if cu_seqlens is not None:
        if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] < 2:
            refuse(OP, f"cu_seqlens is {tuple(cu_seqlens.shape)}", "[documents + 1]")
        require_like(OP, "cu_seqlens", cu_seqlens, q, "q", dtype=torch.int32)
        if q.ndim == 4 and q.shape[0] != 1:
            refuse(OP, f"q is {tuple(q.shape)}", "packed, or of one row, with cu_seqlens")
    if for_triton:
        _check_for_triton(q, k)


def _check_for_triton(q: torch.Tensor, k: torch.Tensor) -> None:
    # The interpreter multiplies bfloat16 matrices wrongly, and float32 would not use the tensor cores of a GPU.
    on_gpu = q.is_cuda or backends.is_supposed(OP, q.device)
    allowed = (torch.float16, torch.bfloat16) if on_gpu else (torch.float16, torch.float32)
    require_dtype(OP, "q", q.dtype, allowed, "sdpa")
    if q.shape[-1] not in HEAD_DIMS:
        refuse(OP, f"head_dim is {q.shape[-1]}", f"one of {HEAD_DIMS}" + takes_more(OP, "sdpa"))
    for name, tensor in (("q", q), ("k", k)):  # positions within a row are 32-bit numbers in the kernels
        if tensor[:1].numel() >= 2**31:
            refuse(OP, f"{name} is {tuple(tensor.shape)}", "of less than 2^31 elements a row")
