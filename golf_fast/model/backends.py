"""Resolves the backends of all ops that a model uses, and refuses those that would be slow unasked."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.ops import backends
from golf_fast.ops.checks import product_dtypes
from golf_fast.ops.window_attention import HEAD_DIMS

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


def require_compute_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """Check that a model can compute in `dtype` on `device`, before anything is trained or scored.

    Raises:
        InputError: kernels on the device do not support it; the message says what does.
    """
    ops = [op for op, backend in backends.describe(device) if op in _OF_PRODUCTS and backend.name == "triton"]
    if ops and dtype not in product_dtypes(device):
        raise InputError(
            f"compute dtype {str(dtype).removeprefix('torch.')}: the kernels of {', '.join(ops)} on {device.type} "
            f"compute in bfloat16 or float16; choose bfloat16 or --device cpu, or set {backends.VARIABLE}=reference "
            "for the slow references"
        )


def require_kernel_shapes(device: torch.device, config: ModelConfig) -> None:
    """Check that the kernels on `device` take the shapes of a model, before anything is trained or scored.

    Raises:
        InputError: they do not; the message says which setting, and what they take.
    """
    by_triton = {op for op, backend in backends.describe(device) if backend.name == "triton"}
    otherwise = f"; or set {backends.VARIABLE}=reference for the slow references"
    if by_triton & {"qkv_attention", "window_attention"} and config.head_dim not in HEAD_DIMS:
        widths = ", ".join(map(str, HEAD_DIMS))
        raise InputError(
            f"model.dim / model.heads is {config.head_dim}: attention on {device.type} has kernels for heads of width "
            f"{widths}{otherwise}"
        )
    of_products = (
        ("linear_residual", "model.dim", config.dim),
        ("relu2_mlp", "model.dim", config.dim),
        ("relu2_mlp", "the hidden width, model.dim * model.mlp_mult,", config.hidden),
    )
    for op, what, size in of_products:
        if op in by_triton and size % 64:
            raise InputError(f"{what} is {size}: the kernels of {op} on {device.type} take multiples of 64{otherwise}")


def as_on_a_gpu() -> AbstractContextManager[None]:
    """A context in which models on the CPU take the code path of GPUs; for fake tensors, which compute nothing."""
    return backends.supposed("triton", "cpu")
