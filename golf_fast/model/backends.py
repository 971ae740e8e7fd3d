"""Resolves the backends of all ops that a model uses, and refuses those that would be slow unasked."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from golf_fast.errors import InputError
from golf_fast.ops import backends
from golf_fast.ops.checks import product_dtypes

_OF_PRODUCTS = (
    "linear_residual",
    "newton_schulz",
    "qkv_attention",
    "relu2_mlp",
    "softcap_cross_entropy",
    "window_attention",
)
"""Ops whose Triton kernels multiply matrices."""


def resolve_backends(device: torch.device) -> dict[str, backends.Backend]:
    """The backend of each op on `device`, by the name of the op.

    Call it before torch.compile traces the model: resolving an op during tracing causes a recompilation.

    Raises:
        InputError: GOLF_FAST_BACKENDS asks for a backend that cannot run, or an op would run its slow reference on a
            GPU without being asked to.
    """
    try:
        resolved = dict(backends.describe(device))
    except ValueError as error:
        raise InputError(str(error)) from error
    for op, backend in resolved.items():
        if device.type == "cuda" and backend.name == "reference" and not backend.asked_for:
            raise InputError(
                f"{op} has only its slow reference on this GPU ({backend.reason}); mend that, or set "
                f"{backends.VARIABLE}={op}=reference to run it all the same"
            )
    return resolved


def limited_ops(device: torch.device, dtype: torch.dtype) -> list[str]:
    """The ops whose kernels on `device` do not compute in `dtype`."""
    if dtype in product_dtypes(device):
        return []
    return [op for op, backend in backends.describe(device) if op in _OF_PRODUCTS and backend.name == "triton"]


def require_compute_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """Check that a model can compute in `dtype` on `device`, before anything is trained or scored.

    Raises:
        InputError: kernels on the device do not support it; the message says what does.
    """
    if ops := limited_ops(device, dtype):
        raise InputError(
            f"compute dtype {str(dtype).removeprefix('torch.')}: the kernels of {', '.join(ops)} on {device.type} "
            f"compute in bfloat16 or float16; choose bfloat16 or --device cpu, or set {backends.VARIABLE}=reference "
            "for the slow references"
        )


def as_on_a_gpu() -> AbstractContextManager[None]:
    """A context in which models on the CPU take the code path of GPUs; for fake tensors, which compute nothing."""
    return backends.supposed("triton", "cpu")
