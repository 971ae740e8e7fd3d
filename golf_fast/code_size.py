"""How many bytes the code of a submission ships as: the one place that counts them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import zstandard

PACKAGE = "golf_fast"


@dataclass(frozen=True)
class Code:
    """The code that a run ships.

    Attributes:
        size: its bytes.
        hash: hexadecimal SHA-256: equal for runs with the same code.
    """

    size: int
    hash: str


def code() -> Code:
    """The code of the running program."""
    return Code(code_bytes(), code_hash())


def loaded_modules() -> list[str]:
    """Modules of this package that the running program uses, by name; the one that was started as a program too."""
    names = {name for name in sys.modules if name.partition(".")[0] == PACKAGE}
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is not None and main.name.partition(".")[0] == PACKAGE:
        names.add(main.name)
    return sorted(name for name in names if _source(name) is not None)


def code_bytes(modules: Iterable[str] | None = None) -> int:
    """Size of the sources of `modules` (None: `loaded_modules()`) after zstandard, level 22, in bytes.

    The order in which the modules are given does not matter, nor does where the package lies.

    Raises:
        ValueError: a module that has no Python source.
    """
    return len(zstandard.ZstdCompressor(level=22).compress(_joined(modules)))


def code_hash(modules: Iterable[str] | None = None) -> str:
    """Hexadecimal SHA-256 of what `code_bytes` compresses: equal for runs with the same code."""
    return hashlib.sha256(_joined(modules)).hexdigest()


def _joined(modules: Iterable[str] | None) -> bytes:
    """Names and sources in the order of the names; the lengths keep two different sets from looking alike."""
    pieces = []
    for name in sorted(set(loaded_modules() if modules is None else modules)):
        path = _source(name)
        if path is None:
            raise ValueError(f"{name}: is no module with a Python source; what ships is made of those")
        source = path.read_bytes()
        pieces.append(f"{name} {len(source)}\n".encode() + source)
    return b"".join(pieces)


def _source(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)
