"""Access to the C++ passes over activations on a CPU (csrc/activations, docs/kernels/passes.md), for the ops that use
them.

A pass reads activations, computes a little and writes the result. An op whose backend is "native" leaves matrix
products to PyTorch and does the rest in such passes. They take float32 and bfloat16, compute in float32 and round each
result once; for other dtypes such an op runs its reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from golf_fast.ops import backends, extension
from golf_fast.ops.backends import Candidate

_missing = extension.missing or (
    None
    if getattr(extension.C, "activations_version", None) == 5
    else "golf_fast._C is older or newer than these sources; build it again"
)
_DTYPES = {torch.float32: False, torch.bfloat16: True}
View = tuple[int, int, int, int]
"""Address of a tensor of heads, and its strides of batch, position and head in elements."""

_path = ""
"""The instruction set that the passes use, one of `paths()`; empty: the fastest."""


def paths() -> list[str]:
    """Instruction sets that the extension can use on this CPU, slowest first; none without the extension."""
    return [] if _missing else extension.C.activations_paths()


def obstacle(device_kind: str) -> str | None:
    """Why the passes cannot run on a kind of device, or None."""
    return _missing or (None if device_kind == "cpu" else f"it has no passes for {device_kind}")


def candidate(what: str, others: str = "the reference", missing: Callable[[str], str | None] = obstacle) -> Candidate:
    """The "native" backend of an op that uses the passes.

    Args:
        what: description of what the passes do in the op.
        others: description of what runs for float16 and float64.
        missing: the obstacle of the backend, which must include that of the passes.
    """
    instructions = paths()[-1] if paths() else "no extension"
    if paths() and not extension.C.activations_has_threads():
        instructions += ", one thread: no OpenMP runtime is loaded"
    return Candidate("native", f"{what} in C++ ({instructions}); float16 and float64 run {others}", missing)


def resolve(op: str, x: torch.Tensor, other: str = "reference") -> str:
    """The name of the backend of `op` for a tensor: `other` if "native" was chosen but does not support its dtype."""
    name = backends.resolve(op, x.device).name
    return other if name == "native" and x.dtype not in _DTYPES else name


def chosen(op: str, x: torch.Tensor) -> bool:
    """Whether an operator of `op` runs the passes on `x`; else it runs the Triton kernels."""
    return backends.resolve(op, x.device).name == "native"


def run(name: str, x: torch.Tensor, *arguments: torch.Tensor | View | float | None) -> None:
    """Call `_C.<name>` for the dtype of `x`; a tensor is passed as its address, None as 0.

    The caller must ensure that the tensors are contiguous, on the CPU, and of the sizes that the pass expects.
    """
    assert not _missing, _missing
    addresses: list[View | float] = []
    for value in arguments:
        if isinstance(value, torch.Tensor):
            assert value.device.type == "cpu", (name, value.device)
            assert value.is_contiguous(), (name, value.shape, value.stride())
            addresses.append(value.data_ptr())
        else:
            addresses.append(0 if value is None else value)
    getattr(extension.C, name)(_DTYPES[x.dtype], *addresses, torch.get_num_threads(), _path)


def rows(x: torch.Tensor) -> tuple[int, int]:
    """The number of rows of `x` `[..., D]`, and D."""
    return x.numel() // x.shape[-1], x.shape[-1]


def parts(count: int) -> int:
    """The number of partial sums that a sum over `count` rows is returned in."""
    return extension.C.activations_parts(count)


def view(x: torch.Tensor) -> View:
    """The address and strides of `x` `[B, T, heads, head_dim]`, whose last stride must be 1."""
    assert x.device.type == "cpu", x.device
    assert x.ndim == 4, x.shape
    assert x.shape[3] == 1 or x.stride(3) == 1, x.stride()
    return (x.data_ptr(), x.stride(0), x.stride(1), x.stride(2))


@contextmanager
def using(path: str) -> Iterator[None]:
    """A context in which the passes use the instruction set `path`, one of `paths()`; for tests."""
    global _path
    before, _path = _path, path
    try:
        yield
    finally:
        _path = before
