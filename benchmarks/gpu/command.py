"""Run a plan within a budget of seconds: `python -m benchmarks gpu --budget SECONDS --plan first`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks import results
from benchmarks.gpu.plans import PATHS, PLANS, Paths, Stage, missing, python, shown
from golf_fast.arguments import Parser, a_path
from golf_fast.errors import InputError

ROOT = Path(__file__).parents[2]
LOG = "gpu.log"
LEAST = 10.0
"""Seconds that a stage needs at least to be begun."""
GRACE = 3.0
"""Seconds between a request to end and the next, which is more urgent."""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        stage: name of the stage.
        end: "done", "failed (exit code N)", "cut off" or "left out".
        seconds: wall time of the stage.
        unasked: whether it was left out because an option that it needs was not given, which is no failure.
    """

    stage: str
    end: str
    seconds: float
    unasked: bool = False

    @property
    def good(self) -> bool:
        return self.end == "done" or self.unasked


class Log:
    """Lines on the terminal and in a file, as they come."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG
        self.file = self.path.open("a", encoding="utf-8", buffering=1)

    def line(self, text: str) -> None:
        self.file.write(f"{text}\n")
        print(text, flush=True)

    def copy(self, stream: IO[str]) -> None:
        """Every line of a program, until it has no more."""
        for line in stream:
            self.line(line.rstrip("\n"))


def run(
    stages: Sequence[Stage], budget: float, folder: Path, rehearse: bool = False, paths: Paths | None = None
) -> list[Outcome]:
    """Run the stages in their order, none past `budget` seconds; one that fails or is cut off ends no other.

    What each prints is in `gpu.log` in `folder` while it is made, and so are the measurements, in `folder` too.
    """
    log, began, outcomes = Log(folder), time.monotonic(), []
    for stage in stages:
        if lacking := [] if rehearse else missing(stage, paths or {}):
            outcomes.append(Outcome(stage.name, "left out", 0.0, unasked=True))
            log.line(f"== {stage.name}: left out, for it needs {' and '.join(lacking)}")
            continue
        left = budget - (time.monotonic() - began)
        if left < LEAST:
            outcomes.append(Outcome(stage.name, "left out", 0.0))
            log.line(f"== {stage.name}: left out, {left:.0f} s are left")
            continue
        limit = min(stage.limit, max(left - 2 * GRACE, left / 2))
        log.line(f"== {stage.name}, {limit:.0f} s of {left:.0f} at most: {shown(stage, rehearse, paths)}")
        end, seconds = _run_one(stage, python(stage, rehearse, paths), limit, folder, log)
        outcomes.append(Outcome(stage.name, end, seconds))
        log.line(f"== {stage.name}: {end}, {seconds:.1f} s")
    return outcomes


def _run_one(stage: Stage, command: list[str], limit: float, folder: Path, log: Log) -> tuple[str, float]:
    own = {results.VARIABLE: str(folder.absolute()), "PYTHONUNBUFFERED": "1", **dict(stage.environment)}
    began = time.monotonic()
    # A session of its own: what it started ends with it.
    with _heeding_interrupts():
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    assert process.stdout is not None
    reader = threading.Thread(target=log.copy, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        code = process.wait(limit)
        end = "done" if code == 0 else f"failed (exit code {code})"
    except subprocess.TimeoutExpired:
        end = "cut off"
    finally:
        _end(process)
    reader.join(GRACE)
    for name in stage.leaves:
        _keep(ROOT / name, folder, log)
    return end, time.monotonic() - began


@contextmanager
def _heeding_interrupts() -> Iterator[None]:
    """A context in which a program that is started heeds SIGINT, even if this one, as a background job, ignores it."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and all that it started: as Ctrl-C does, at which tests say what has failed so far, then by
    request, then without one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(None if number == signal.SIGKILL else GRACE)


def _keep(path: Path, folder: Path, log: Log) -> None:
    """Copy a file that a stage left, if it did, to the measurements."""
    if not path.is_file():
        return
    try:
        shutil.copy2(path, folder / path.name)
    except OSError as error:
        log.line(f"{path.name} is not kept: {error}")


def main(arguments: Sequence[str]) -> None:
    parser = Parser(
        prog="python -m benchmarks gpu",
        description="Measure what is worth most first, within a budget. Every figure is in the results' folder as soon "
        "as it is known, and all output in gpu.log there.",
    )
    parser.add_argument("--budget", type=float, required=True, metavar="SECONDS", help="for everything")
    parser.add_argument("--plan", choices=sorted(PLANS), default="first", help="what to measure (default: first)")
    parser.add_argument("--list", action="store_true", help="say what would be run and stop")
    parser.add_argument(
        "--rehearse", action="store_true", help="run as much of each stage as a machine without a GPU can"
    )
    for name, what in PATHS.items():
        parser.add_argument(f"--{name}", type=a_path, metavar="PATH", help=f"{what}, for the stages that need it")
    results.add_option(parser)
    options = parser.parse_args(arguments)
    paths = {name: path.absolute() for name in PATHS if (path := getattr(options, name)) is not None}
    for name, path in paths.items():
        if not path.exists():
            raise InputError(f"--{name} {path}: there is no such file or folder; it is {PATHS[name]}")
    if not LEAST <= options.budget < float("inf"):
        raise InputError(f"--budget is {options.budget:g}: it must be at least {LEAST:g} seconds")
    stages = PLANS[options.plan]
    if options.list:
        for stage in stages:
            lacking = [] if options.rehearse else missing(stage, paths)
            needs = f", left out without {' and '.join(lacking)}" if lacking else ""
            print(f"{stage.name}, {stage.limit} s at most{needs}: {shown(stage, options.rehearse, paths)}")
        return
    if not options.rehearse:
        from golf_fast.ops.launch import triton_obstacle

        if obstacle := triton_obstacle("cuda"):
            raise InputError(f"{obstacle}; --rehearse runs what does without one, --list says what would be run")
    outcomes = run(stages, options.budget, results.folder(), options.rehearse, paths)
    print(f"measurements and {LOG} are in {results.folder()}")
    if bad := [f"{outcome.stage} ({outcome.end})" for outcome in outcomes if not outcome.good]:
        sys.exit(f"not done: {', '.join(bad)}")
