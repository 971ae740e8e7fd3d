"""Runs that are killed in every stage, again and again, and go on each time: they end in the bits of one that was not.

GOLF_FAST_KILLS sets how many kills there are (default 5; 30 in continuous integration), GOLF_FAST_FUZZ_SEED when they
come.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from helpers import bare_run, ranks
from helpers.small_run import RESUMED, text

from golf_fast import resume_records
from golf_fast.pipeline.products import RUN
from golf_fast.runs import FinishedRun
from golf_fast.train.checkpoint import folders, read

KILLS = int(os.environ.get("GOLF_FAST_KILLS", "5"))
SEED = int(os.environ.get("GOLF_FAST_FUZZ_SEED", "0"))
STAGES = [
    "train",
    "compress",
    "what compression cost",
    "score before compression",
    "score after compression",
    "score while adapting",
]
LEFT_OUT = {
    "train_seconds",
    "tokens_per_second",
    "eval_seconds",
    "peak_memory_bytes",
    "not_judged",
    "resumed",
    "repeated_seconds",
    "run_id",
    "file_hashes",
}
"""Of result.json: what is measured, or says that the run was cut short."""
Start = Callable[..., tuple[list[ForkServerProcess], list[Path]]]


@pytest.fixture
def start(tmp_path: Path, fork_context: ForkServerContext) -> Start:
    """A function `(world_size, *arguments)` that starts bare runs with them."""

    def start(world_size: int, *arguments: str) -> tuple[list[ForkServerProcess], list[Path]]:
        return ranks.start(fork_context, tmp_path, str(bare_run.__file__), world_size, arguments)

    return start


def new(folder: Path, name: str) -> list[str]:
    return ["tiny", *RESUMED, f"--data.text={text(folder)}", f"--data.built={folder / 'built'}", *place(folder, name)]


def place(folder: Path, name: str) -> list[str]:
    return [f"--runs-dir={folder}", f"--run-id={name}"]


def found(run: Path) -> dict[str, Any]:
    """What a run computed."""
    held = FinishedRun(run)
    result = json.loads(held.paths.result.read_text())
    records = held.records()
    assert not resume_records.marker(held.paths.resume / RUN).exists()
    files = (held.paths.artifact, held.paths.weights, held.paths.token_losses, held.paths.ledger)
    return {
        "result": {name: value for name, value in result.items() if name not in LEFT_OUT},
        "rates": (held.schedule().lr_factor, held.schedule().momentum),
        "losses": [(each["step"], each["loss"]) for each in records if each["kind"] == "train"],
        "val": [(each["step"], each["loss"], each["bpb"]) for each in records if each["kind"] == "val"],
        "compression": [each for each in records if each["kind"] in ("compression", "tensor", "gain")],
        "stages": [each["name"] for each in records if each["kind"] == "stage" and each["name"] != "data"],
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def begun(run: Path) -> list[str]:
    """The stages that a run has begun so far, again and again."""
    path = run / "resume" / "stages.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [event["stage"] for event in map(json.loads, lines) if event["event"] == "begin"]


def kill_in(run: Path, processes: list[ForkServerProcess], stage: str, before: int, delay: float) -> bool:
    """Kill a run some seconds after it has begun a stage, or a later one; False if nothing was left to do by then."""
    wanted = STAGES[STAGES.index(stage) :]
    end = time.monotonic() + ranks.SECONDS
    while not set(begun(run)[before:]) & set(wanted):
        assert time.monotonic() < end
        if not any(process.is_alive() for process in processes):
            return False
        time.sleep(0.002)
    time.sleep(delay)
    ranks.end(processes)
    return resume_records.marker(run / "resume" / RUN).exists()


def killed_until_it_ends(
    folder: Path, name: str, start: Start, world_size: int, seconds: dict[str, float], draws: random.Random, most: int
) -> int:
    """Make a run that is killed in one stage after another, at most so often, and goes on; how often it was."""
    run, kills = folder / name, 0
    order = sorted(draws.choices(STAGES[:1], k=2) + STAGES[1:], key=STAGES.index)
    arguments = new(folder, name)
    for stage in order[:most]:
        before = len(begun(run))
        processes, said = start(world_size, *arguments)
        if kill_in(run, processes, stage, before, draws.uniform(0, seconds[stage])):
            kills += 1
            arguments = ["--resume", str(run)]
            continue
        # One that was killed had finished and was about to exit.
        assert {process.exitcode for process in processes} <= {0, -signal.SIGKILL}, said[0].read_text()
        return kills
    ranks.finish(*start(world_size, *arguments))
    return kills


def undisturbed(folder: Path, start: Start, world_size: int) -> tuple[dict[str, Any], dict[str, float]]:
    """What a run computes that nobody kills, and how long each stage takes."""
    ranks.finish(*start(world_size, *new(folder, "whole")))
    records = FinishedRun(folder / "whole").records()
    return found(folder / "whole"), {each["name"]: each["seconds"] for each in records if each["kind"] == "stage"}


def test_killed_in_every_stage_a_run_ends_in_the_same_bits(tmp_path: Path, start: Start) -> None:
    whole, seconds = undisturbed(tmp_path, start, 1)
    draws, kills, runs = random.Random(SEED), 0, 0
    while kills < KILLS:
        name = f"killed{runs}"
        count = killed_until_it_ends(tmp_path, name, start, 1, seconds, draws, KILLS - kills)
        again = found(tmp_path / name)
        assert again == whole, name
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["resumed"] == count
        assert (tmp_path / name / "log.txt").read_text().count("\nresumed ") == count
        kills, runs = kills + count, runs + 1
        assert runs <= KILLS + 3, "the kills come too late"


def test_two_ranks_that_are_killed_end_in_the_same_bits(tmp_path: Path, start: Start) -> None:
    whole, seconds = undisturbed(tmp_path, start, 2)
    killed_until_it_ends(tmp_path, "killed", start, 2, seconds, random.Random(SEED + 1), 2)
    assert found(tmp_path / "killed") == whole


def test_a_signal_to_one_rank_ends_all_of_them_after_the_same_step(tmp_path: Path, start: Start) -> None:
    longer = ["--train.max-steps=100000", "--train.checkpoint-every=0"]
    processes, said = start(2, *new(tmp_path, "stopped"), *longer)
    try:
        end = time.monotonic() + ranks.SECONDS
        while "step:3/" not in said[0].read_text():
            assert all(process.is_alive() for process in processes), said[0].read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        assert processes[1].pid is not None
        os.kill(processes[1].pid, signal.SIGTERM)
        for process in processes:
            process.join(ranks.SECONDS)
        assert [process.exitcode for process in processes] == [128 + signal.SIGTERM] * 2
    finally:
        ranks.end(processes)
    (taken,) = folders(tmp_path / "stopped" / "resume")
    assert len(read(taken).records) == 2
    assert f"to go on: python -m golf_fast.train --resume {tmp_path / 'stopped'}" in said[0].read_text()
