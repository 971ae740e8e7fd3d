"""Checks that the disk has room for the files of a run, before anything is computed."""

from __future__ import annotations

import shutil
from pathlib import Path

from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.files import reason
from golf_fast.model import parameters

_REPORT_BYTES = 640 << 10
"""Bytes of the page with its pictures, the log, the configuration, the documents and the tokenizer of a small run."""
_STEP_BYTES = 320
"""Bytes that one step adds to the metrics, the log and the schedule."""
_MOST_STEPS = 10_000
"""Steps that a run that ends by the clock does not exceed."""


def needed(config: RunConfig, validation_tokens: int) -> dict[str, int]:
    """Estimated bytes of the files of a run, by what they are for."""
    count = parameters.count(config.model)
    return {
        "the checkpoint": 4 * count,
        "the artifact": count,
        "the losses of the tokens": (8 if config.score.ttt != "off" else 4) * validation_tokens,
        "the rest": _REPORT_BYTES + _STEP_BYTES * min(config.train.max_steps, _MOST_STEPS),
    }


def require_room(folder: Path, config: RunConfig, validation_tokens: int) -> None:
    """Check that the disk of `folder` has room for a run.

    Raises:
        InputError: it has not; the message says how much each part needs.
    """
    wanted = needed(config, validation_tokens)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"{folder}: its disk cannot be asked for room ({reason(error)})") from error
    if free < sum(wanted.values()):
        parts = ", ".join(f"{what} {size:,}" for what, size in wanted.items())
        raise InputError(
            f"{folder}: its disk has {free:,} bytes left, and the run needs about {sum(wanted.values()):,} ({parts}); "
            "make room, or choose another --runs-dir"
        )
