"""Where a run leaves what it leaves."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from golf_fast.config import RunConfig
from golf_fast.errors import InputError


@dataclass(frozen=True)
class RunDirectory:
    """A directory that was empty when the run began."""

    path: Path
    made: bool
    """Whether this process made it."""

    def discard(self) -> None:
        """Take back what a run left in it that came to nothing, and the directory if it was made for the run."""
        with contextlib.suppress(OSError):
            for file in self.path.iterdir():
                file.unlink()
            if self.made:
                self.path.rmdir()


def new_run_directory(config: RunConfig, began: float, main: bool = True) -> RunDirectory:
    """The directory of this run, made by the main rank; the others only say where it is.

    Args:
        began: seconds since the epoch, the same on every rank; names a run that has no name.

    Raises:
        InputError: it cannot be made, or holds an earlier run.
    """
    run_id = config.run_id or f"{config.recipe}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(began))}"
    run_dir = config.runs_dir / run_id
    if not main:
        return RunDirectory(run_dir, made=False)
    try:
        made = not run_dir.exists()
        run_dir.mkdir(parents=True, exist_ok=True)
        if any(run_dir.iterdir()):
            raise InputError(f"{run_dir}: holds an earlier run, which stays as it is; choose another --run-id")
    except OSError as error:
        raise InputError(f"{run_dir}: cannot be made ({error.strerror}); choose another --runs-dir") from error
    if not os.access(run_dir, os.W_OK):
        raise InputError(f"{run_dir}: cannot be written; choose another --runs-dir")
    return RunDirectory(run_dir, made)
