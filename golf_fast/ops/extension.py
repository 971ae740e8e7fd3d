"""The compiled extension `golf_fast._C`, if it can be imported."""

from __future__ import annotations

__all__ = ["C", "missing", "obstacle"]

missing: str | None = None
"""Why the extension cannot be imported; None: it can."""
try:
    from golf_fast import _C as C
except ImportError as error:
    missing = f"golf_fast._C cannot be imported ({error})"


def obstacle(device_kind: str) -> str | None:
    """Why the extension cannot be used, or None; for backends that move their arguments to the CPU first."""
    return missing
