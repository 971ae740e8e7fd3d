"""Attention on packed projections: norm and rotation of queries and keys, windowed attention, and the exclusive
gate."""

from __future__ import annotations

from functools import partial

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import refuse, require_like
from golf_fast.ops.exclusive_gate import check as check_exclusive_gate
from golf_fast.ops.exclusive_gate import exclusive_gate
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.qk_norm_rope import check as check_qk_norm_rope
from golf_fast.ops.qk_norm_rope import qk_norm_rope
from golf_fast.ops.qkv_attention import operators, reference
from golf_fast.ops.window_attention import check as check_window_attention
from golf_fast.ops.window_attention import window_attention
from golf_fast.ops.window_attention.reference import document_bounds

OP = "qkv_attention"
PARTS = ("qk_norm_rope", "window_attention", "exclusive_gate")


def _obstacle(backend: str, device_kind: str) -> str | None:
    obstacle = (triton_obstacle if backend == "triton" else passes.obstacle)(device_kind)
    if obstacle is not None:
        return obstacle
    others = [f"{op} is {name}" for op in PARTS if (name := backends.resolve(op, device_kind).name) != backend]
    return ", ".join(others) or None


backends.register(
    OP,
    backends.Candidate(
        "triton",
        "the kernels of its parts, whose gradients meet in one tensor without a copy",
        partial(_obstacle, "triton"),
        ("cpu",),
    ),
    passes.candidate(
        "norm and rotation write what the products of attention read,",
        "its parts one after the other",
        partial(_obstacle, "native"),
    ),
    backends.Candidate("separate", "its parts one after the other, each as it runs here", backends.anywhere),
)


def qkv_attention(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    window: int | None = None,
    gate: torch.Tensor | None = None,
    *,
    cu_seqlens: torch.Tensor | None = None,
    exclusive: bool = False,
) -> torch.Tensor:
    """`window_attention(*qk_norm_rope(q, k, gain, cos, sin), v)` for q, k and v stored side by side in `qkv`.

    A single matrix product computes `qkv` from the residual stream, and a single one its gradient, so the stream is
    read once instead of three times, and there are no three gradients to add up.

    Args:
        qkv: `[B, T, heads + 2 * kv_heads, head_dim]`, any floating dtype: of each position the heads of the queries,
            then those of the keys, then those of the values.
        gain: `[heads]`, the dtype of `qkv`; multiplies the normalised queries.
        cos: `[T, pairs]`, as in `qk_norm_rope`.
        sin: `[T, pairs]`, as in `qk_norm_rope`.
        window: number of positions that a query sees, including its own; None: all up to its own.
        gate: `[B, T, heads]`, logits in the dtype of `qkv`, with which `exclusive_gate` is applied to the result; None:
            there is no gate.
        cu_seqlens: as in `window_attention`.
        exclusive: whether the component of each head along the position's own value is removed, as in `exclusive_gate`.

    Returns:
        `[B, T, heads, head_dim]`, the dtype of `qkv`.

    Normalised and rotated, queries and keys bound the logits by the largest gain times the root of head_dim; the
    kernels read that bound on the device (see `window_attention`).

    In C++ what is saved is `qkv`, the arguments, and as matrices the new queries and keys, the values and the shares of
    the softmax; with documents the shares of up to 512 keys to a query, in the mean, and others are computed again. The
    Triton kernels save `qkv`, the arguments, the new queries and keys, the output and its log-sum-exp. They take what
    those of `qk_norm_rope` and `window_attention` take, `qkv` contiguous. With `exclusive` or `gate` both save what
    attention found, too.

    Raises:
        ValueError: shapes, dtypes, devices or strides that the op or the chosen backend does not take.
    """
    backend = passes.resolve(OP, qkv, "separate")
    _check(qkv, gain, gate, exclusive, backend == "triton")
    q, k, v = reference.split(qkv, gain.shape[0])
    if backend != "separate":
        check_qk_norm_rope(q, k, gain, cos, sin, backend == "triton")
        check_window_attention(q, k, v, window, cu_seqlens, None, backend == "triton")
    if backend == "native":
        return _native(qkv, gain, cos, sin, window, cu_seqlens, exclusive, gate)
    bound = gain.detach().abs().max().float() * qkv.shape[3] ** 0.5
    if backend == "separate":
        q, k = qk_norm_rope(q, k, gain, cos, sin)
        attended = window_attention(q, k, v, window, cu_seqlens=cu_seqlens, logit_bound=bound)
        return exclusive_gate(attended, v if exclusive else None, gate) if exclusive or gate is not None else attended
    bounds = None if cu_seqlens is None else document_bounds(cu_seqlens, qkv.shape[1])
    seen = qkv.shape[1] if window is None else window
    out: torch.Tensor = operators.forward(qkv, gain, cos, sin, bound, bounds, seen, exclusive, _contiguous(gate))[0]
    return out


def _native(
    qkv: torch.Tensor,
    gain: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    exclusive: bool,
    gate: torch.Tensor | None,
) -> torch.Tensor:
    learns = qkv.requires_grad or gain.requires_grad or (gate is not None and gate.requires_grad)
    given = (t.contiguous() for t in (qkv, gain, cos, sin))
    kept = torch.is_grad_enabled() and learns
    out: torch.Tensor = operators.native_forward(*given, window, cu_seqlens, kept, exclusive, _contiguous(gate))[0]
    return out


def _contiguous(gate: torch.Tensor | None) -> torch.Tensor | None:
    return None if gate is None else gate.contiguous()


def _check(qkv: torch.Tensor, gain: torch.Tensor, gate: torch.Tensor | None, exclusive: bool, for_triton: bool) -> None:
    if gain.ndim != 1:
        refuse(OP, f"gain is {tuple(gain.shape)}", "[heads]")
    heads, others = gain.shape[0], qkv.shape[2] - gain.shape[0] if qkv.ndim == 4 else 0
    if others <= 0 or others % 2:
        expected = f"[B, T, heads + 2 * kv_heads, head_dim], with {heads} heads as in gain"
        refuse(OP, f"qkv is {tuple(qkv.shape)}", expected)
    require_like(OP, "qkv", qkv, qkv, "qkv", layout="contiguous" if for_triton else "any")
    require_like(OP, "gain", gain, qkv, "qkv")
    if exclusive or gate is not None:
        q, _, v = reference.split(qkv, heads)
        check_exclusive_gate(q, v if exclusive else None, gate, False)
