"""The same tensors under another codec."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from golf_fast.compress.artifact.container import Artifact, read_artifact, write_artifact
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError

CodecName = Literal["rans", "zstd", "brotli"]


def recode(source: Path, codec: CodecName, output: Path) -> tuple[int, int]:
    """Write an artifact's tensors, bit for bit, and its configuration under another codec.

    Returns:
        The sizes of both files in bytes.

    Raises:
        InputError: `source` is not an artifact, `output` is there already or cannot be written.
    """
    refuse_to_replace(output)
    held = read_artifact(source)
    return held.size, write_artifact(output, held.tensors, held.model_config, _settings(source, held, codec))


def refuse_to_replace(path: Path) -> None:
    """Raises:
    InputError: there is something at `path`.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: is there already and is not replaced; give the name of a new file")


def _settings(source: Path, held: Artifact, codec: CodecName) -> CompressConfig:
    """The codec, and beside it what the artifact notes of how it was made."""
    noted = held.header.compress
    level = noted.get("level", CompressConfig.zstd_level)
    if type(level) is not int or not 1 <= level <= 22:
        raise InputError(f"{source}: the level of zstd that it notes is {level!r:.80}; it must be from 1 to 22")
    settings = CompressConfig(codec=codec, zstd_level=level)
    for field in dataclasses.fields(CompressConfig):
        if field.name in noted and field.name != "codec":
            # Only to be noted again, so not checked: an artifact notes less than the settings that a run must have.
            object.__setattr__(settings, field.name, noted[field.name])
    return settings
