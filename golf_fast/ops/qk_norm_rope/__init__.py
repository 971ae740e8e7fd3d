"""What happens to queries and keys between projection and attention: norm, rotation, gain."""

from __future__ import annotations

import torch

from golf_fast.ops import backends
from golf_fast.ops.launch import require, triton_obstacle
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
    backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere),
)


def qk_norm_rope(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS-normalise each head, rotate it by its position (Su et al., RoFormer, arXiv 2104.09864), scale the queries.

    Args:
        q: `[B, T, heads, head_dim]`, any floating dtype.
        k: `[B, T, kv_heads, head_dim]`, the dtype of `q`.
        gain: `[heads]`, multiplies the queries; the dtype of `q`.
        cos: `[T, pairs]`, cosine of position times frequency, not differentiable; the dtype of `q`. Dimension i turns
            with i + pairs, and dimensions from 2 * pairs on do not turn; pairs is head_dim / 2 for the full rotation.
        sin: likewise.

    Returns:
        The new q and k, in their shapes and dtypes, contiguous from Triton. The epsilon of the norm is that of float32,
        1.1920929e-07, its mean square is in float32.

    The Triton kernels compute in float32 and round once, where the reference rounds after every operation. They save
    the arguments, and take float32, bfloat16 and float16 of any even head dim up to 256 with a last stride of 1.

    Raises:
        ValueError: shapes, dtypes, devices or strides that the op or the chosen backend does not take.
    """
    backend = backends.resolve(OP, q.device).name
    check(q, k, gain, cos, sin, backend == "triton")
    if backend == "triton":
        q_out, k_out = operators.forward(q, k, gain, cos, sin)
        return q_out, k_out
    return reference.qk_norm_rope(q, k, gain, cos, sin)


def check(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, for_triton: bool
) -> None:
    require(q.ndim == 4, OP, f"q is {tuple(q.shape)}", "[B, T, heads, head_dim]")
    rows, length, heads, head_dim = q.shape
    expected = (rows, length, k.shape[2] if k.ndim == 4 else "kv_heads", head_dim)
    require(k.shape == expected, OP, f"k is {tuple(k.shape)}", f"{expected}, as q is {tuple(q.shape)}")
    require(gain.shape == (heads,), OP, f"gain is {tuple(gain.shape)}", f"{(heads,)}")
    require(cos.ndim == 2 and cos.shape[0] == length, OP, f"cos is {tuple(cos.shape)}", "[T, pairs], with the T of q")
    require(1 <= cos.shape[1] <= head_dim // 2, OP, f"cos has {cos.shape[1]} pairs", f"1 to {head_dim // 2}")
    require(sin.shape == cos.shape, OP, f"sin is {tuple(sin.shape)}", f"as cos, {tuple(cos.shape)}")
    for name, tensor in (("k", k), ("gain", gain), ("cos", cos), ("sin", sin)):
        require(tensor.dtype == q.dtype, OP, f"{name} is {tensor.dtype}", f"the dtype of q, {q.dtype}")
        require(tensor.device == q.device, OP, f"{name} is on {tensor.device}", f"where q is, {q.device}")
    require(not (cos.requires_grad or sin.requires_grad), OP, "cos or sin requires a gradient", "a constant")
    if for_triton:
        _check_for_triton(q, k, gain, cos, sin)


def _check_for_triton(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> None:
    other = f"; {backends.VARIABLE}={OP}=reference takes more"
    allowed = (torch.float32, torch.bfloat16, torch.float16)
    require(q.dtype in allowed, OP, f"q is {q.dtype}", " or ".join(map(str, allowed)) + other)
    require(q.shape[3] <= 256, OP, f"head_dim is {q.shape[3]}", "at most 256" + other)
    require(q.shape[0] * q.shape[1] < 2**31, OP, f"q is {tuple(q.shape)}", "of less than 2^31 tokens")
    for name, tensor in (("q", q), ("k", k)):
        require(tensor.stride(3) == 1, OP, f"{name} has strides {tensor.stride()}", "contiguous in its last dimension")
    for name, tensor in (("gain", gain), ("cos", cos), ("sin", sin)):
        require(tensor.is_contiguous(), OP, f"{name} has strides {tensor.stride()}", "contiguous")
