"""Peers from other packages: one that is not installed, fails or is wrong is left out, and the measurements go on."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks.ops.registry import Case


def optional(module: str, name: str) -> tuple[Callable[..., Any] | None, str]:
    """`module.name`, or None and why there is none."""
    try:
        return getattr(importlib.import_module(module), name), ""
    except ModuleNotFoundError as error:
        missing = error.name or ""
        return None, "not installed" if f"{module}.".startswith(f"{missing}.") else f"{module} needs {missing}"
    except AttributeError:
        return None, f"{module} has no {name}"
    except Exception as error:  # whatever a package does where it finds no GPU that it knows
        return None, f"{module} cannot be imported ({error})"


def obstacle(case: Case, peer: str) -> str | None:
    """None if a peer computes the same as the op, or has no gate; else what is wrong with it."""
    gate = case.peer_gates.get(peer)
    try:
        return gate() if gate else None
    except Exception as error:  # a kernel that does not know this GPU, or these shapes
        return failure(error)


def failure(error: Exception) -> str:
    """How a peer failed, in one line."""
    return f"it fails here ({type(error).__name__}: {next(iter(str(error).splitlines()), '')})"
