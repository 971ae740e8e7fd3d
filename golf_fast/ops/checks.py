"""What every op demands of its arguments, on every path: one line that names the op, the argument, its value and what
would be right.

Nothing is written before something is wrong, so a call costs comparisons only, and torch.compile traces no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn

import torch

from golf_fast.ops.backends import VARIABLE


def refuse(op: str, thing: str, expected: str) -> NoReturn:
    """Raise the ValueError of one line that says what `thing` is and what it must be."""
    raise ValueError(f"{op}: {thing}; it must be {expected}")


def require_like(
    op: str,
    name: str,
    tensor: torch.Tensor,
    like: torch.Tensor,
    of: str = "x",
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    layout: Literal["any", "rows", "contiguous"] = "any",
) -> None:
    """Raise a ValueError unless the argument `name` fits `like`, the argument `of`.

    Args:
        shape: what it must have; None: any.
        dtype: what it must have; None: that of `like`.
        layout: "rows": a last stride of 1, "contiguous": all strides as in a new tensor.
    """
    if shape is not None and tuple(tensor.shape) != tuple(shape):
        refuse(op, f"{name} is {tuple(tensor.shape)}", f"{tuple(shape)}, as {of} is {tuple(like.shape)}")
    if tensor.dtype != (like.dtype if dtype is None else dtype):
        refuse(op, f"{name} is {tensor.dtype}", str(dtype) if dtype else f"the dtype of {of}, {like.dtype}")
    if tensor.device != like.device:
        refuse(op, f"{name} is on {tensor.device}", f"where {of} is, {like.device}")
    if layout == "contiguous" and not tensor.is_contiguous():
        refuse(op, f"{name} has strides {tensor.stride()}", "contiguous")
    if layout == "rows" and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        refuse(op, f"{name} has strides {tensor.stride()}", "contiguous in its last dimension")


def require_dtype(op: str, name: str, dtype: torch.dtype, allowed: Sequence[torch.dtype], other: str = "") -> None:
    """Raise a ValueError unless a kernel takes `dtype`; `other` is the backend that takes more."""
    if dtype not in allowed:
        refuse(op, f"{name} is {dtype}", " or ".join(map(str, allowed)) + takes_more(op, other))


def takes_more(op: str, other: str) -> str:
    """How a person gets a backend without the limits of this one; nothing if there is none."""
    return f"; {VARIABLE}={op}={other} takes more" if other else ""


def product_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """What kernels with matrix products take: on a GPU those of its tensor cores, in the interpreter float32 too."""
    half = (torch.bfloat16, torch.float16)
    return half if device.type == "cuda" else (*half, torch.float32)
