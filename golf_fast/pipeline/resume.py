"""Finds the interrupted run to resume: the one named by --resume, or the one whose ranks torchrun has restarted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_fast import resume_records
from golf_fast.command_line import Parsed, beside
from golf_fast.config import RunConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.files import locked
from golf_fast.pipeline.products import RUN, launch
from golf_fast.runs import FinishedRun, RunPaths
from golf_fast.train import checkpoint
from golf_fast.train_config import CHECKPOINTS

FLAG = "--resume"
HARMLESS = tuple(f"train.{name}" for name in CHECKPOINTS)
"""Flags that may be given together with --resume."""
_NEEDED = "name the directory of a run that was cut short, such as runs/tiny-20260101-120000"


@dataclass(frozen=True)
class InterruptedRun:
    """A run to resume.

    Attributes:
        folder: the directory of the run.
        step: the step of the checkpoint to resume from; None: the newest state.
    """

    folder: Path
    step: int | None = None


def asked(arguments: Sequence[str], prog: str) -> tuple[Parsed, InterruptedRun] | None:
    """The run that a command line asks to resume, with its own configuration; None: the command line has no --resume.

    Raises:
        InputError: there is no such run, it has finished, or other flags were given with --resume.
    """
    named = [argument for argument in arguments if argument.partition("=")[0] == FLAG]
    if not named:
        return None
    place = list(arguments).index(named[0])
    _, equals, name = named[0].partition("=")
    rest = [*arguments[:place], *arguments[place + 1 :]]
    if not equals:
        name = rest.pop(place) if place < len(rest) else ""
    if not name:
        raise InputError(f"{FLAG}: {_NEEDED}")
    interrupted = _found(Path(name))
    settings = FinishedRun(interrupted.folder).settings
    config = beside(rest, settings.config, HARMLESS, prog)
    lines = [f"going on with the run of {interrupted.folder}, with its own configuration"]
    return Parsed(config, settings.origins, lines), interrupted


def restarted(config: RunConfig, ranks: Ranks) -> InterruptedRun | None:
    """The run that these ranks had begun, if torchrun has restarted them with the same command; else None."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    found = b""
    if ranks.main:
        runs = sorted(config.runs_dir.glob(f"*/{RunPaths(Path()).resume}/{RUN}.json"), key=_age)
        mine = [path.parents[1] for path in runs if _began_here(path, config)]
        found = os.fsencode(mine[0]) if mine else b""
    folder = ranks.gather_bytes(found)[0]
    return InterruptedRun(Path(os.fsdecode(folder))) if folder else None


@contextlib.contextmanager
def exclusive(paths: RunPaths) -> Iterator[None]:
    """Hold the lock of a run while the block runs.

    Raises:
        InputError: another process holds it.
    """
    with locked(paths.config) as holder:
        if holder == "another":
            raise InputError(f"{paths.folder}: another process is making this run; wait until it has ended, or end it")
        yield


def end_partial_line(path: Path) -> None:
    """Append a newline if a file ends in a partial line, as a killed process leaves it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                os.pwrite(descriptor, b"\n", size)
        finally:
            os.close(descriptor)


def _found(path: Path) -> InterruptedRun:
    """The run at a path, which is its directory or that of one of its checkpoints."""
    folder, step = path, None
    resume = RunPaths(Path()).resume.name
    if path.parent.name == resume:
        folder = path.parent.parent
        step = checkpoint.read(path, check=os.environ.get("RANK", "0") == "0").step
    run = FinishedRun(folder)
    if not run.paths.config.exists():
        raise InputError(f"{folder}: is no directory of a run; {_NEEDED}")
    if not resume_records.marker(run.paths.resume / RUN).exists():
        if run.as_written(run.paths.result).get("finished") is True:
            raise InputError(f"{folder}: the run has finished; there is nothing to go on with")
        raise InputError(
            f"{folder}: keeps nothing to go on from, it ended before its training began or an earlier version made it; "
            "make a new run"
        )
    return InterruptedRun(folder, step)


def _age(path: Path) -> float:
    """A sort key that puts the newest file first."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _began_here(path: Path, config: RunConfig) -> bool:
    """Whether the torchrun launch of this process began the run whose record is at `path`."""
    try:
        record, settings = resume_records.read(path.with_suffix("")), FinishedRun(path.parents[1]).settings
    except InputError:
        return False
    return record.fields.get("launch") == launch() is not None and settings.config == config
