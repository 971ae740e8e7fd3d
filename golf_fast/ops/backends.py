"""Chooses the backend (implementation) of each op, once per device type and with a reason, which is printed.

An op lists its candidates in order of preference; the first that can run on a device is used there. The environment
variable GOLF_FAST_BACKENDS overrides the choice: `relu2_mlp=reference,window_attention=sdpa` for single ops, or one
bare name such as `reference` for every op that has a backend of that name. A request that cannot be met is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

VARIABLE = "GOLF_FAST_BACKENDS"


@dataclass(frozen=True)
class Candidate:
    """One implementation of an op.

    Attributes:
        name: name in GOLF_FAST_BACKENDS and `result.json`.
        reason: why it is preferred when it can run.
        obstacle: function from a device type ("cpu", "cuda") to None if it can run there, else to what is missing.
        on_request: device types on which it runs only if GOLF_FAST_BACKENDS names it.
    """

    name: str
    reason: str
    obstacle: Callable[[str], str | None]
    on_request: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backend:
    """The implementation chosen for an op on a device type, and the reason."""

    name: str
    reason: str
    asked_for: bool = False
    """Whether GOLF_FAST_BACKENDS named it."""


_SUPPOSED = "supposed"
_candidates: dict[str, tuple[Candidate, ...]] = {}
_decided: dict[tuple[str, str], Backend] = {}


def anywhere(device_kind: str) -> None:
    """The `obstacle` of an implementation that runs on every device."""


REFERENCE = Candidate("reference", "plain PyTorch runs anywhere", anywhere)
"""The definition of an op in plain PyTorch, which most ops list last."""
PLAIN = Candidate("plain", "PyTorch's own, which a compiler fuses with what is around it", anywhere)
"""The definition of an op where it is the preferred choice on a GPU. REFERENCE is listed after it, so that a request
for "reference" is met too."""


def register(op: str, *candidates: Candidate) -> None:
    """Declare the implementations of `op`, the preferred first; the last must run on every device."""
    assert candidates[-1].obstacle("cpu") is None, f"{op} has no implementation for a CPU"
    _candidates[op] = candidates


def registered() -> tuple[str, ...]:
    """The names of all ops, sorted."""
    return tuple(sorted(_candidates))


def names(op: str) -> tuple[str, ...]:
    """The names of the backends of `op`, the preferred first."""
    return tuple(candidate.name for candidate in _candidates[op])


def _requests(text: str) -> dict[str, str]:
    """The backend names in GOLF_FAST_BACKENDS by op; the key "" has a request for all ops."""
    requests: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        op, _, name = part.rpartition("=")
        if op and op not in _candidates:
            raise ValueError(f"{VARIABLE} names the op {op!r}: the ops are {', '.join(registered())}")
        requests[op] = name
    return requests


def _decide(op: str, device_kind: str) -> Backend:
    candidates = _candidates[op]
    requests = _requests(os.environ.get(VARIABLE, ""))
    known = names(op)
    wanted = requests.get(op)
    if wanted is not None and wanted not in known:
        raise ValueError(f"{VARIABLE} asks for {op}={wanted}: its backends are {', '.join(known)}")
    if wanted is None and requests.get("") in known:
        wanted = requests[""]
    if wanted is not None:
        obstacle = candidates[known.index(wanted)].obstacle(device_kind)
        if obstacle is not None:
            raise ValueError(f"{VARIABLE} asks for {op}={wanted}, which cannot run on {device_kind}: {obstacle}")
        return Backend(wanted, f"asked for by {VARIABLE}", asked_for=True)
    missing: list[str] = []
    for candidate in candidates:
        if device_kind in candidate.on_request:
            continue
        obstacle = candidate.obstacle(device_kind)
        if obstacle is None:
            return Backend(candidate.name, "; ".join([candidate.reason, *missing]))
        missing.append(f"not {candidate.name}: {obstacle}")
    raise AssertionError(f"{op}: no implementation runs on {device_kind}")


def resolve(op: str, device: torch.device | str) -> Backend:
    """The implementation of `op` on `device`; the same answer for the life of the process.

    Raises:
        ValueError: GOLF_FAST_BACKENDS names an unknown op or backend, or one that cannot run.
    """
    kind = device.type if isinstance(device, torch.device) else device.partition(":")[0]
    backend = _decided.get((op, kind))
    if backend is None:
        backend = _decided[op, kind] = _decide(op, kind)
    return backend


# torch.compile calls it during tracing and treats the result as a constant. It cannot be traced, and a guard on
# `_decided` would fail, and cause a recompilation, as soon as this result is added to it. This is
# torch.compiler.assume_constant_result without its import of torch._dynamo and triton, which takes seconds.
resolve._dynamo_marked_constant = True  # type: ignore[attr-defined]


@contextmanager
def requested(text: str) -> Iterator[None]:
    """A context in which GOLF_FAST_BACKENDS is `text`, for tests and benchmarks."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = text
    forget()
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        forget()


@contextmanager
def supposed(name: str, device_kind: str) -> Iterator[None]:
    """A context in which ops that have a backend `name` choose it on a device type whether or not it can run there; for
    programs that only trace shapes, with fake tensors."""
    before = dict(_decided)
    _decided.clear()
    _decided.update(
        {(op, device_kind): Backend(name, _SUPPOSED, asked_for=True) for op in registered() if name in names(op)}
    )
    try:
        yield
    finally:
        _decided.clear()
        _decided.update(before)


def is_supposed(op: str, device: torch.device) -> bool:
    """Whether the choice was made by `supposed`, so that nothing may be computed."""
    return resolve(op, device).reason == _SUPPOSED


def forget() -> None:
    """Discard all choices, so that the next call decides anew; for tests that change GOLF_FAST_BACKENDS."""
    _decided.clear()


def describe(device: torch.device | str) -> list[tuple[str, Backend]]:
    """The name and the backend on `device` of every op, sorted by name."""
    return [(op, resolve(op, device)) for op in registered()]
