"""Rewrites an artifact under another codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golf_fast.compress.artifact.container import LEVELS, read_artifact, write_artifact
from golf_fast.config import CodecName
from golf_fast.errors import InputError


def recode(source: Path, codec: CodecName, output: Path) -> tuple[int, int]:
    """Write the same tensors, bit for bit, and the same configuration under another codec.

    Returns:
        The sizes of both files in bytes.

    Raises:
        InputError: `source` is not an artifact, `output` is there already or cannot be written.
    """
    refuse_to_replace(output)
    held = read_artifact(source)
    notes = held.header.compress
    level = _level(source, notes)
    return held.size, write_artifact(output, held.tensors, held.model_config, codec=codec, level=level, notes=notes)


def refuse_to_replace(path: Path) -> None:
    """Refuse a path that exists.

    Raises:
        InputError: there is a file, a folder or a link at `path`.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: is there already and is not replaced; give the name of a new file")


def _level(source: Path, noted: dict[str, Any]) -> int:
    """The level of zstd that an artifact notes, or the default."""
    level: Any = noted.get("level", LEVELS[-1])
    if type(level) is not int or level not in LEVELS:
        raise InputError(
            f"{source}: the level of zstd that it notes is {level!r:.80}; it must be from {LEVELS[0]} to {LEVELS[-1]}"
        )
    return level
