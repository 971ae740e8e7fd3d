"""Executes the runs of all variants on all seeds; existing runs are reused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from golf_fast.ablate.variants import Variant
from golf_fast.config import RunConfig, TrainConfig
from golf_fast.errors import InputError
from golf_fast.files import locked, read_bytes, reason
from golf_fast.runs import FinishedRun, Result

Say = Callable[[str], None]

_SCHEDULED = (
    "warmdown_steps",
    "warmdown_frac",
    "min_lr",
    "loop_at",
    "muon_momentum",
    "muon_momentum_start",
    "muon_momentum_warmup_steps",
    "seq_len",
    "seq_growth",
    "seq_growth_until",
    "seq_ramp_steps",
    "window_growth",
    "window_growth_until",
)
"""Fields of the training that a recorded schedule has the effect of: a run that follows one does not ask for them."""
_POLL_SECONDS = 0.2
_END_SECONDS = 30.0
"""Seconds that a run may take to end when the ablation is aborted."""


@dataclass(frozen=True)
class Plan:
    """The runs of an ablation.

    Attributes:
        recipe: a name of `RECIPES`.
        common: command-line flags of every run.
        variants: variants to run; the first is the unchanged recipe.
        seeds: each variant runs once on each.
        steps: training steps of every run; 0: as many as the first run reaches by its clock.
        out: folder for the directory of each run and the file of what it printed.
        ranks: number of processes of a run; more than 1 are started by torchrun.
        jobs: number of runs that are made at the same time.
    """

    recipe: str
    common: tuple[str, ...]
    variants: Sequence[Variant]
    seeds: Sequence[int]
    steps: int
    out: Path
    ranks: int = 1
    jobs: int = 1


@dataclass(frozen=True)
class Outcome:
    """A run that has ended, in its folder; `result` is None, and `failure` says why, where it has not finished."""

    variant: str
    seed: int
    result: Result | None
    failure: str = ""
    folder: Path | None = None


@dataclass(frozen=True)
class _Task:
    """A run of the plan, there or yet to be made."""

    variant: Variant
    seed: int
    folder: Path
    place: str


def run_all(plan: Plan, say: Say) -> Iterator[Outcome]:
    """Make the runs that are not there yet, seed by seed, so that a table of whole pairs grows as early as it can.

    The recipe as it is comes first. All runs do as many steps on as many tokens. With `steps` each has its own schedule
    over them; without, they follow the schedule of the first, but for variants that change the schedule: those have
    their own over its number of steps. Where a run fails the others go on. What runs when this ends early is ended.

    Raises:
        InputError: the first run failed, a run that is there has other settings, another ablation makes runs there, or
            a folder cannot be written.
    """
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{plan.out}: cannot be made ({reason(error)}); name another --out") from error
    with locked(plan.out) as holder:
        if holder == "another":
            raise InputError(f"{plan.out}: another ablation makes runs there; wait for it, or name another --out")
        yield from _run_all(plan, say)


def _run_all(plan: Plan, say: Say) -> Iterator[Outcome]:
    first, *others = _tasks(plan)
    clock = [f"--train.max-steps={plan.steps}", "--train.max-seconds=0"] if plan.steps else []
    outcome = _there(first, plan.steps)
    if outcome is None:
        [(_, outcome, _)] = _make(plan, [(first, clock)], say)
    if outcome.result is None:
        raise InputError(f"{first.place}: {outcome.failure}; the other runs are compared with it")
    _tell(first, outcome, "", say)
    yield outcome
    steps, missing = outcome.result.steps, []
    for task in others:
        if there := _there(task, steps):
            _tell(task, there, "", say)
            yield there
        else:
            missing.append((task, _budget(plan, task, first, steps)))
    for task, outcome, after in _make(plan, missing, say):
        _tell(task, outcome, after, say)
        yield outcome


def _tasks(plan: Plan) -> list[_Task]:
    total = len(plan.variants) * len(plan.seeds)
    pairs = [(seed, variant) for seed in plan.seeds for variant in plan.variants]
    return [
        _Task(variant, seed, plan.out / f"{variant.name}-{seed}", f"[{number}/{total}] {variant.name}, seed {seed}")
        for number, (seed, variant) in enumerate(pairs, start=1)
    ]


def _tell(task: _Task, outcome: Outcome, after: str, say: Say) -> None:
    if outcome.result is None:
        say(f"{task.place}: FAILED, {outcome.failure}{after}")
    else:
        result = outcome.result
        say(f"{task.place}: {result.val_bpb:.4f} bits per byte after {result.steps:,} steps{after}")


def _budget(plan: Plan, task: _Task, first: _Task, steps: int) -> list[str]:
    """The flags that give a run as many tokens as the first had."""
    own, whole = task.variant.config.train, first.variant.config.train
    if plan.steps or any(getattr(own, name) != getattr(whole, name) for name in _SCHEDULED):
        return [f"--train.max-steps={steps}", "--train.max-seconds=0"]
    return [f"--train.replay-schedule={first.folder}"]


def _there(task: _Task, steps: int) -> Outcome | None:
    """A run of these settings that has finished before; what was cut short is moved aside.

    Args:
        steps: that it must have done; 0 for any number.
    """
    folder = task.folder
    if not folder.exists():
        return None
    run = FinishedRun(folder)
    try:
        result = run.result()
        if result.finished and result.val_bpb is not None:
            if _compared(run.config) != _compared(replace(task.variant.config, seed=task.seed)):
                raise InputError(f"{folder}: is a run of other settings; name another --out, or move it away")
            if steps and result.steps != steps:
                raise InputError(
                    f"{folder}: is a run of {result.steps} steps, and the others have {steps}; name another --out, or"
                    f" move it away"
                )
            return Outcome(task.variant.name, task.seed, result, folder=folder)
    except InputError:
        if run.paths.result.exists():
            raise
    number = 1
    while (aside := folder.with_name(f"{folder.name}.unfinished-{number}")).exists():
        number += 1
    try:
        folder.rename(aside)
    except OSError as error:
        raise InputError(f"{folder}: is unfinished and cannot be moved aside ({reason(error)})") from error
    return None


def _compared(config: RunConfig) -> RunConfig:
    """The settings but for names and places, and for what says how many steps there are."""
    plain = TrainConfig()
    train = replace(
        config.train, max_steps=plain.max_steps, max_seconds=plain.max_seconds, replay_schedule=plain.replay_schedule
    )
    return replace(config, run_id="", runs_dir=Path(), train=train)


@dataclass(frozen=True)
class _Running:
    """A run that has been started."""

    task: _Task
    process: subprocess.Popen[bytes]
    printed: Path
    since: float

    def outcome(self) -> Outcome:
        """The outcome of the run, which must have ended."""
        name, seed = self.task.variant.name, self.task.seed
        if code := self.process.returncode:
            said = read_bytes(self.printed, "what a run printed is needed").decode("utf-8", "replace")
            return Outcome(name, seed, None, f"exit code {code}: {_reason(said)}")
        return Outcome(name, seed, FinishedRun(self.task.folder).result(), folder=self.task.folder)


def _reason(said: str) -> str:
    """Why a run failed, of all that it printed: its error, behind which torchrun says much; else the last line."""
    lines = said.strip().splitlines() or [""]
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])


def _make(plan: Plan, queue: Sequence[tuple[_Task, list[str]]], say: Say) -> Iterator[tuple[_Task, Outcome, str]]:
    """Make runs, `plan.jobs` at a time, and yield each when it has ended, with a forecast of the end of all of them.

    Args:
        queue: runs, with the flags of their budget.
    """
    waiting, running, seconds = list(queue), list[_Running](), list[float]()
    try:
        while waiting or running:
            while waiting and len(running) < plan.jobs:
                running.append(_start(plan, *waiting.pop(0), say))
            ended = [each for each in running if each.process.poll() is not None]
            if not ended:
                time.sleep(_POLL_SECONDS)
            for each in ended:
                running.remove(each)
                seconds.append(time.monotonic() - each.since)
                yield each.task, each.outcome(), _forecast(seconds, len(waiting) + len(running), plan.jobs)
    finally:
        _end(running)


def _forecast(seconds: Sequence[float], left: int, jobs: int) -> str:
    """When the last run will have ended, if the others take as long as those did on average."""
    if not left:
        return ""
    remaining = sum(seconds) / len(seconds) * left / min(jobs, left)
    end = time.strftime("%H:%M", time.localtime(time.time() + remaining))
    return f"; {left} to go, until about {end}"


def _start(plan: Plan, task: _Task, budget: list[str], say: Say) -> _Running:
    program = ["-m", "golf_fast.train", plan.recipe, *plan.common, *task.variant.flags, *budget, f"--seed={task.seed}"]
    program += [f"--runs-dir={plan.out}", f"--run-id={task.folder.name}"]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={plan.ranks}"]
    printed = plan.out / f"{task.folder.name}.out"
    say(f"{task.place}: started, printing to {printed}")
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // (plan.jobs * plan.ranks)))}
    try:
        with printed.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *(launcher if plan.ranks > 1 else []), *program],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**(threads if plan.jobs > 1 else {}), **os.environ},
            )
    except OSError as error:
        raise InputError(f"{printed}: cannot be written ({reason(error)})") from error
    return _Running(task, process, printed, time.monotonic())


def _end(running: Sequence[_Running]) -> None:
    """Terminate runs that are still going when the ablation ends."""
    for each in running:
        each.process.terminate()
    for each in running:
        try:
            each.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
