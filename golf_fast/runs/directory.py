"""Where a run leaves what it leaves."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from golf_fast.config import RunConfig
from golf_fast.errors import InputError

if TYPE_CHECKING:  # it imports torch, and a report needs none
    from golf_fast.distributed import Ranks


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


def new_run_directory(config: RunConfig, ranks: Ranks) -> RunDirectory:
    """The directory of this run, made by rank 0; the others learn its time stamp from it.

    Raises:
        InputError: it cannot be made, or holds an earlier run.
    """
    stamp = ranks.broadcast_float(time.time())
    run_id = config.run_id or f"{config.recipe}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(stamp))}"
    run_dir = config.runs_dir / run_id
    if not ranks.main:
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
