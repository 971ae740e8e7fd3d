"""`config.json`: every setting of a run, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from golf_fast import json_files
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.from_plain import from_plain


@dataclass(frozen=True)
class Settings:
    """What the file holds."""

    config: RunConfig
    origins: dict[str, str]
    """Dotted field -> "command line", "environment NAME" or "recipe"."""


def read(path: Path) -> Settings:
    """The settings in `path`.

    Raises:
        InputError: the file is missing, or does not hold a configuration of this version.
    """
    held = json_files.read_object(path, "the directory of a run is needed")
    if not isinstance(held.get("config"), dict):
        raise InputError(f"{path}: is not the configuration of a run")
    return Settings(
        from_plain(RunConfig, held["config"], path),
        from_plain(_Origins, {"origins": held.get("origins", {})}, path).origins,
    )


@dataclass(frozen=True)
class _Origins:
    origins: dict[str, str]
