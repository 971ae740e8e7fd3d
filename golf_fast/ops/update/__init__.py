"""The first part of the update of a training step: clip factors from gradient norms, and Nesterov momentum."""

from __future__ import annotations

import torch

from golf_fast.ops import backends
from golf_fast.ops.checks import KERNEL_DTYPES, refuse, require_dtype, require_like
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.update import operators, reference
from golf_fast.ops.update.reference import Factors

OP = "update"

backends.register(
    OP,
    backends.Candidate("triton", "a launch for all factors and one for momentum", triton_obstacle, ("cpu",)),
    backends.REFERENCE,
)


def update_factors(found: torch.Tensor, doubt: torch.Tensor, grad_clip: float, *, squares: bool) -> Factors:
    """The clip factor of the gradients of a step, and whether the step may change anything.

    Args:
        found: `[n + 1]`, the L2 norm of each gradient, then the loss; float32 (the reference also takes float64).
        doubt: float32 scalar, 0 until a norm or a loss was not finite, then NaN.
        grad_clip: greatest L2 norm over all gradients; 0: no limit.
        squares: whether `found` has squared norms.

    Returns:
        Scalars: the new `doubt`; `ok`, bool, whether `doubt` is 0; `failed`, float32, 0 where `ok` is true, else 1;
        `clip`, in the dtype of `found`, `min(grad_clip / (norm + 1e-6), 1)`, or 1 without a `grad_clip`.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.
    """
    if found.ndim != 1 or not len(found):
        refuse(OP, f"found is {tuple(found.shape)}", "[n + 1]")
    if not found.is_floating_point():
        refuse(OP, f"found is {found.dtype}", "of a floating dtype")
    require_like(OP, "doubt", doubt, found, "found", shape=(), dtype=torch.float32)
    if backends.resolve(OP, found.device).name == "reference":
        return reference.factors(found, doubt, grad_clip, squares)
    require_dtype(OP, "found", found.dtype, (torch.float32,), "reference")
    return Factors(*operators.factors(found.contiguous(), doubt, grad_clip, squares))


def nesterov(
    gradient: torch.Tensor,
    momentum: torch.Tensor,
    mu: float,
    clip: torch.Tensor | None = None,
    failed: torch.Tensor | None = None,
) -> torch.Tensor:
    """Nesterov momentum: `momentum` becomes `mu * momentum + clip * gradient`, in place, and the direction is then
    `clip * gradient + mu * momentum`.

    Args:
        gradient: any shape, contiguous, any floating dtype; the Triton kernel takes float32, bfloat16 and float16, and
            rounds each result once where the plain version rounds after every operation.
        momentum: like `gradient`; is changed.
        mu: share of the momentum that is kept.
        clip: scalar of a floating dtype; None: 1.
        failed: float32 scalar; where it is not 0 the momentum is kept and the direction is 0. None: it is 0.

    Returns:
        The direction, like `gradient`.

    Raises:
        ValueError: shapes, dtypes, devices or strides that do not fit.
    """
    if not gradient.is_floating_point():
        refuse(OP, f"gradient is {gradient.dtype}", "of a floating dtype")
    require_like(OP, "gradient", gradient, gradient, layout="contiguous")
    require_like(OP, "momentum", momentum, gradient, "gradient", shape=gradient.shape, layout="contiguous")
    if clip is not None:
        if not clip.is_floating_point():
            refuse(OP, f"clip is {clip.dtype}", "of a floating dtype")
        require_like(OP, "clip", clip, gradient, "gradient", shape=(), dtype=clip.dtype)
    if failed is not None:
        require_like(OP, "failed", failed, gradient, "gradient", shape=(), dtype=torch.float32)
    if backends.resolve(OP, gradient.device).name == "reference":
        return reference.nesterov(gradient, momentum, mu, clip, failed)
    require_dtype(OP, "gradient", gradient.dtype, KERNEL_DTYPES, "reference")
    direction: torch.Tensor = operators.nesterov(gradient, momentum, mu, clip, failed)
    return direction
