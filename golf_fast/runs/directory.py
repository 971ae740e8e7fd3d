"""Where a run leaves what it leaves: a directory that it takes by creating it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.files import reason
from golf_fast.runs.paths import RunPaths

_MOST_IN_A_SECOND = 1000


@dataclass(frozen=True)
class RunDirectory:
    """A directory that this process took: no other run is or will be in it."""

    path: Path
    number: int
    """The how-manieth it is of its name, from 1; a name that the user gave has no other."""
    made: bool
    """Whether this process made it; else it was there and empty."""

    def discard(self) -> None:
        """Take back what a run left in it that came to nothing, and the directory if it was made for the run.

        Only the files that a run writes are removed: the directory was taken when none of them was in it.
        """
        for path in vars(RunPaths(self.path)).values():
            if path != self.path:
                with contextlib.suppress(OSError):
                    path.unlink()
        if self.made:
            with contextlib.suppress(OSError):  # somebody else's file is in it
                self.path.rmdir()


def run_folder(config: RunConfig, began: float, number: int = 1) -> Path:
    """Where a run's directory is.

    Args:
        began: seconds since the epoch; names a run that has no name.
        number: tells runs apart that began in the same second.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(began))
    run_id = config.run_id or f"{config.recipe}-{stamp}" + (f"-{number}" if number > 1 else "")
    return config.runs_dir / run_id


def new_run_directory(config: RunConfig, began: float) -> RunDirectory:
    """Take the directory of a run, for one process of all that might want it; a name of ours gets a number if need be.

    Args:
        began: seconds since the epoch; names a run that has no name.

    Raises:
        InputError: it cannot be made or written, or holds another run.
    """
    for number in range(1, 2 if config.run_id else _MOST_IN_A_SECOND):
        folder = run_folder(config, began, number)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            made = _make(folder)
            if (made or config.run_id) and _take(folder, made):
                return RunDirectory(folder, number, made)
        except (OSError, ValueError) as error:
            why = f"cannot be made or written ({reason(error)})"
            raise InputError(f"{folder}: {why}; choose another --runs-dir") from error
    raise InputError(f"{folder}: holds an earlier run, which stays as it is; choose another --run-id")


def _make(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _take(folder: Path, made: bool) -> bool:
    """Whether a directory that is empty, or was just made, is ours: only one process can make the first file in it."""
    if not made and any(folder.iterdir()):
        return False
    try:
        os.close(os.open(RunPaths(folder).config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return False
    return True
