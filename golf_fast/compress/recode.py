"""The same tensors under another codec."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from golf_fast.compress.container import Artifact, read_artifact, write_artifact
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
    """The settings that the artifact notes, with another codec."""
    fields = {field.name for field in dataclasses.fields(CompressConfig)}
    noted = {"zstd_level" if name == "level" else name: value for name, value in held.header.compress.items()}
    try:
        return CompressConfig(**{name: value for name, value in noted.items() if name in fields} | {"codec": codec})
    except (InputError, TypeError) as error:
        raise InputError(f"{source}: the settings that it notes are not of this version ({error})") from error
