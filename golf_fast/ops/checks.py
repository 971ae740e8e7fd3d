"""Checks of the arguments of ops, with errors of one line that name the op, the argument, its value and what would be
right.

Messages are formatted only when a check fails, so a call costs comparisons only, and torch.compile traces no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn

import torch

from golf_fast.ops.backends import VARIABLE

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of the Triton kernels without matrix products; see `product_dtypes` for the others."""


def refuse(op: str, thing: str, expected: str) -> NoReturn:
    """Raise a ValueError that says what `thing` is and that it must be `expected`."""
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
    """Raise a ValueError unless the argument `name` matches `like`, which is the argument `of`.

    Args:
        op: name of the op.
        name: name of the argument.
        tensor: the argument.
        like: the argument that determines device and dtype.
        of: name of the argument `like`.
        shape: required shape; None: any.
        dtype: required dtype; None: that of `like`.
        layout: "rows" requires a last stride of 1, "contiguous" a contiguous tensor.
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
    """Raise a ValueError unless `dtype` is allowed; the message recommends the backend `other`, if it is given."""
    if dtype not in allowed:
        refuse(op, f"{name} is {dtype}", " or ".join(map(str, allowed)) + takes_more(op, other))


def takes_more(op: str, other: str) -> str:
    """A clause on how to select the backend `other`, which has fewer restrictions; "" if there is none."""
    return f"; {VARIABLE}={op}={other} takes more" if other else ""


def product_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """The dtypes that kernels with matrix products support: on a GPU those of tensor cores, in the interpreter also
    float32."""
    half = (torch.bfloat16, torch.float16)
    return half if device.type == "cuda" else (*half, torch.float32)
