"""The implementation of every op that a program runs a model with."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from golf_fast.errors import InputError
from golf_fast.ops import backends


def resolve_backends(device: torch.device) -> dict[str, backends.Backend]:
    """The implementation of each op on `device`, by name.

    Call it before a graph is made: an op that is resolved while one is has it made a second time.

    Raises:
        InputError: GOLF_FAST_BACKENDS asks for the impossible, or a GPU would run a slow reference unasked.
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
    """Models on a CPU go inside through what GPUs run: with fake tensors, which have shapes and nothing to compute."""
    return backends.supposed("triton", "cpu")
