"""Resolves the backends of all ops that a model uses, and refuses those that would be slow unasked."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from golf_fast.errors import InputError
from golf_fast.ops import backends


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


def as_on_a_gpu() -> AbstractContextManager[None]:
    """A context in which models on the CPU take the code path of GPUs; for fake tensors, which compute nothing."""
    return backends.supposed("triton", "cpu")
