"""Run a plan within a budget of seconds: `python -m benchmarks gpu --budget SECONDS --plan first`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks import results
from benchmarks.gpu.plans import PLANS, Stage, python, shown
from golf_fast.arguments import Parser
from golf_fast.errors import InputError

ROOT = Path(__file__).parents[2]
LOG = "gpu.log"
LEAST = 10.0
"""Seconds that a stage needs at least to be begun."""
GRACE = 3.0
"""Seconds between the request to end and the end."""


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: "done", "failed (exit code N)", "cut off" or "left out", and its seconds."""

    stage: str
    end: str
    seconds: float

    @property
    def good(self) -> bool:
        return self.end == "done"


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


def run(stages: Sequence[Stage], budget: float, folder: Path, rehearse: bool = False) -> list[Outcome]:
    """Run the stages in their order, none past `budget` seconds; one that fails or is cut off ends no other.

    What each prints is in `gpu.log` in `folder` while it is made, and so are the measurements, in `folder` too.
    """
    log, began, outcomes = Log(folder), time.monotonic(), []
    for stage in stages:
        left = budget - (time.monotonic() - began)
        if left < LEAST:
            outcomes.append(Outcome(stage.name, "left out", 0.0))
            log.line(f"== {stage.name}: left out, {left:.0f} s are left")
            continue
        limit = min(stage.limit, left - GRACE)
        log.line(f"== {stage.name}, {limit:.0f} s of {left:.0f} at most: {shown(stage, rehearse)}")
        outcome = _run_one(stage, limit, folder, log, rehearse)
        outcomes.append(outcome)
        log.line(f"== {stage.name}: {outcome.end}, {outcome.seconds:.1f} s")
    return outcomes


def _run_one(stage: Stage, limit: float, folder: Path, log: Log, rehearse: bool) -> Outcome:
    own = {results.VARIABLE: str(folder.absolute()), "PYTHONUNBUFFERED": "1", **dict(stage.environment)}
    began = time.monotonic()
    # A session of its own: what it started ends with it.
    process = subprocess.Popen(
        python(stage, rehearse),
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
    return Outcome(stage.name, end, time.monotonic() - began)


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and all that it started: by request, then without one."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE if number == signal.SIGTERM else None)
        except subprocess.TimeoutExpired:
            continue


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
    results.add_option(parser)
    options = parser.parse_args(arguments)
    if not LEAST <= options.budget < float("inf"):
        raise InputError(f"--budget is {options.budget:g}: it must be at least {LEAST:g} seconds")
    stages = PLANS[options.plan]
    if options.list:
        for stage in stages:
            print(f"{stage.name}, {stage.limit} s at most: {shown(stage, options.rehearse)}")
        return
    if not options.rehearse:
        from golf_fast.ops.launch import triton_obstacle

        if obstacle := triton_obstacle("cuda"):
            raise InputError(f"{obstacle}; --rehearse runs what does without one, --list says what would be run")
    outcomes = run(stages, options.budget, results.folder(), options.rehearse)
    print(f"measurements and {LOG} are in {results.folder()}")
    if bad := [f"{outcome.stage} ({outcome.end})" for outcome in outcomes if not outcome.good]:
        sys.exit(f"not done: {', '.join(bad)}")
