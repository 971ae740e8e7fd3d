"""Creates the directory of a run, exclusively."""

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
    """A directory that belongs to the run of this process exclusively."""

    path: Path
    number: int
    """Number that distinguishes directories of the same name, from 1; a name that the user gave is not numbered."""
    made: bool
    """Whether this process created it; else it existed and was empty."""

    def discard(self) -> None:
        """Remove the files of a failed run, and the directory if it was created for the run.

        Only files that a run writes are removed; none of them existed when the directory was taken.
        """
        for path in vars(RunPaths(self.path)).values():
            if path != self.path:
                with contextlib.suppress(OSError):
                    path.unlink()
        if self.made:
            with contextlib.suppress(OSError):  # it contains other files
                self.path.rmdir()


def run_folder(config: RunConfig, began: float, number: int = 1) -> Path:
    """The path of a run's directory.

    Args:
        config: the configuration of the run.
        began: start of the run in seconds since the epoch, for the name of a run without a run id.
        number: number that distinguishes runs that began in the same second.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(began))
    run_id = config.run_id or f"{config.recipe}-{stamp}" + (f"-{number}" if number > 1 else "")
    return config.runs_dir / run_id


def new_run_directory(config: RunConfig, began: float) -> RunDirectory:
    """Create the directory of a run; a name that the user did not choose gets a number if it is taken.

    Args:
        config: the configuration of the run.
        began: start of the run in seconds since the epoch, for the name of a run without a run id.

    Raises:
        InputError: the directory cannot be created or written, or holds another run.
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
    """Take a directory that is empty or new; succeeds for one process only, which creates the first file in it."""
    if not made and any(folder.iterdir()):
        return False
    try:
        os.close(os.open(RunPaths(folder).config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return False
    return True
