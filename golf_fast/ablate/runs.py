"""Runs of all variants on all seeds, one after another; what is there already is not made again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from golf_fast.ablate.variants import WHOLE, Variant
from golf_fast.config import RunConfig, TrainConfig
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, reason
from golf_fast.runs import FinishedRun, Result

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        recipe: a name of `RECIPES`.
        common: flags of every run.
        variants: the first is the recipe as it is.
        seeds: each variant runs once on each.
        steps: training steps of every run; 0: as many as the first run reaches by its clock.
        out: gets a run directory for each run, and one file of what it printed.
        ranks: processes of a run; more than 1 are started by torchrun.
    """

    recipe: str
    common: tuple[str, ...]
    variants: Sequence[Variant]
    seeds: Sequence[int]
    steps: int
    out: Path
    ranks: int = 1


@dataclass(frozen=True)
class Outcome:
    """A run that has ended; `result` is None, and `failure` says why, where it has not finished."""

    variant: str
    seed: int
    result: Result | None
    failure: str = ""


def run_all(plan: Plan, say: Say) -> Iterator[Outcome]:
    """Make the runs that are not there yet, seed by seed, so that a table of whole pairs grows as early as it can.

    Every run follows the schedule of the first, and so sees as many tokens at the same rates. Where a run fails the
    others go on.

    Raises:
        InputError: the first run, whose schedule the others follow, failed; or a folder cannot be written.
    """
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{plan.out}: cannot be made ({reason(error)}); name another --out") from error
    total, number = len(plan.variants) * len(plan.seeds), 0
    first = plan.out / _name(WHOLE, plan.seeds[0])
    for seed in plan.seeds:
        for variant in plan.variants:
            number += 1
            folder = plan.out / _name(variant.name, seed)
            flags = [*plan.common, *variant.flags, *_budget(plan, folder, first)]
            place = f"[{number}/{total}] {variant.name}, seed {seed}"
            outcome = _there(folder, variant, seed) or _run(plan, variant, seed, folder, flags, say, place)
            if outcome.result is None:
                if folder == first:
                    raise InputError(f"{place}: {outcome.failure}; the other runs follow its schedule")
                say(f"{place}: FAILED, {outcome.failure}")
            else:
                result = outcome.result
                say(f"{place}: {result.val_bpb:.4f} bits per byte, {result.train_seconds:.0f} s of training")
            yield outcome


def _name(variant: str, seed: int) -> str:
    return f"{variant}-{seed}"


def _budget(plan: Plan, folder: Path, first: Path) -> list[str]:
    if folder != first:
        return [f"--train.replay-schedule={first}"]
    return [f"--train.max-steps={plan.steps}", "--train.max-seconds=0"] if plan.steps else []


def _there(folder: Path, variant: Variant, seed: int) -> Outcome | None:
    """A run of these settings that has finished before; what was cut short is moved aside."""
    if not folder.exists():
        return None
    run = FinishedRun(folder)
    try:
        result = run.result()
        if result.finished and result.val_bpb is not None:
            if _compared(run.config) != _compared(replace(variant.config, seed=seed)):
                raise InputError(f"{folder}: is a run of other settings; name another --out, or move it away")
            return Outcome(variant.name, seed, result)
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
    """The settings but for names and places, and for what the schedule of the first run decides."""
    plain = TrainConfig()
    train = replace(
        config.train, max_steps=plain.max_steps, max_seconds=plain.max_seconds, replay_schedule=plain.replay_schedule
    )
    return replace(config, run_id="", runs_dir=Path(), train=train)


def _run(plan: Plan, variant: Variant, seed: int, folder: Path, flags: list[str], say: Say, place: str) -> Outcome:
    program = ["-m", "golf_fast.train", plan.recipe, *flags, f"--seed={seed}"]
    program += [f"--runs-dir={plan.out}", f"--run-id={folder.name}"]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={plan.ranks}"]
    printed = plan.out / f"{folder.name}.out"
    say(f"{place}: started, printing to {printed}")
    try:
        with printed.open("wb") as file:
            done = subprocess.run(
                [sys.executable, *(launcher if plan.ranks > 1 else []), *program],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ,
                check=False,
            )
    except OSError as error:
        raise InputError(f"{printed}: cannot be written ({reason(error)})") from error
    if done.returncode:
        last = read_bytes(printed, "what a run printed is needed").decode("utf-8", "replace").strip().splitlines()[-1:]
        return Outcome(variant.name, seed, None, f"exit code {done.returncode}: {''.join(last)}")
    return Outcome(variant.name, seed, FinishedRun(folder).result())
