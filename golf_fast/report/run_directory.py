"""Where a run leaves what it leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from golf_fast.config import RunConfig
from golf_fast.errors import InputError

if TYPE_CHECKING:  # it imports torch, and a report needs none
    from golf_fast.distributed import Ranks


def new_run_directory(config: RunConfig, ranks: Ranks) -> Path:
    """The directory of this run, made by rank 0; the others learn its time stamp from it.

    Raises:
        InputError: it cannot be made, or holds an earlier run.
    """
    stamp = ranks.broadcast_float(time.time())
    run_id = config.run_id or f"{config.recipe}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(stamp))}"
    run_dir = config.runs_dir / run_id
    if not ranks.main:
        return run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if any(run_dir.iterdir()):
            raise InputError(f"{run_dir}: holds an earlier run, which stays as it is; choose another --run-id")
    except OSError as error:
        raise InputError(f"{run_dir}: cannot be made ({error.strerror}); choose another --runs-dir") from error
    if not os.access(run_dir, os.W_OK):
        raise InputError(f"{run_dir}: cannot be written; choose another --runs-dir")
    return run_dir
