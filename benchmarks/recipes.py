"""What finished runs of the recipes reached, on record: `python -m benchmarks recipes RUN_DIR ...`

Each run becomes a line of golf_fast/recipes/measured.jsonl, which `python -m golf_fast.recipes` shows. Only runs that
say something of a recipe as it is are taken: finished, with its own settings, made by the code of this checkout. Run
it where the runs were made: the name of the processor is asked of this machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import results
from golf_fast.arguments import Parser, a_path
from golf_fast.code_size import code
from golf_fast.command_line import differences, flag_names, shown
from golf_fast.errors import InputError
from golf_fast.files import replacing
from golf_fast.recipes import RECIPES
from golf_fast.recipes.measured import PATH, Measured, is_place, read, settings_hash
from golf_fast.runs import FinishedRun


def main(arguments: Sequence[str]) -> None:
    parser = Parser(
        prog="python -m benchmarks recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=a_path, metavar="RUN_DIR", help="what python -m golf_fast.train left")
    parser.add_argument("--record", type=a_path, default=PATH, metavar="FILE", help="the record to write to")
    options = parser.parse_args(arguments)
    before = read(options.record)
    found = [measured(FinishedRun(folder)) for folder in options.runs]
    new = [each for each in found if not any(_same(each, other) for other in before)]
    with replacing(options.record, "w") as file:
        file.writelines(json.dumps(asdict(each)) + "\n" for each in [*before, *new])
    for each in new:
        print(f"{each.recipe}, seed {each.seed}: {each.bpb:.4f} bits per byte, {each.total_bytes:,} bytes")
    print(f"{options.record}: {len(new)} of {len(found)} runs added, the others are there")


def measured(run: FinishedRun) -> Measured:
    """The line of a run.

    Raises:
        InputError: it has not finished, is no run of a recipe as it is, or was made by other code.
    """
    result, config, folder = run.result(), run.config, run.paths.folder
    if not result.finished or result.val_bpb is None or result.artifact_bytes is None:
        raise InputError(f"{folder}: has not finished; go on with python -m golf_fast.train --resume {folder}")
    if config.recipe not in RECIPES:
        raise InputError(f"{folder}: is a run of {config.recipe}, which is no recipe here")
    recipe = RECIPES[config.recipe]()
    changed = {field: value for field, (value, _) in differences(config, recipe).items() if not is_place(field)}
    if changed:
        said = ", ".join(f"{field} = {shown(value)}" for field, value in changed.items())
        raise InputError(f"{folder}: is {config.recipe} with other settings ({said}); a run without them is needed")
    require_own_code(run)
    return Measured(
        recipe=config.recipe,
        settings=settings_hash(recipe),
        seed=result.seed,
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=_command(run),
        commit=results.commit(),
        device=result.device,
        cpu=results.processor(),
        world_size=result.world_size,
        versions=result.versions,
        data=_data(result.validation_shards),
        steps=result.steps,
        train_seconds=result.train_seconds,
        params=result.params,
        bpb=result.val_bpb,
        bpb_without_adapting=result.bpb_without_ttt,
        bpb_before_compression=result.bpb_before_compression,
        artifact_bytes=result.artifact_bytes,
        code_bytes=result.code_bytes,
        legal=result.legal,
        violations=result.violations,
        not_judged=result.not_judged,
    )


def require_own_code(run: FinishedRun) -> None:
    """That a run was made by the code of this checkout, for its commit goes on record.

    Raises:
        InputError: it was not.
    """
    if run.result().code_hash != code(run.config).hash:
        raise InputError(
            f"{run.paths.folder}: was made by other code than this checkout's; record it from that of its commit"
        )


def _same(one: Measured, other: Measured) -> bool:
    """Whether two lines are of one run."""
    return asdict(one) | {"time": "", "commit": ""} == asdict(other) | {"time": "", "commit": ""}


def _command(run: FinishedRun) -> str:
    config = run.config
    several = f"torchrun --nproc_per_node={run.result().world_size} -m" if run.result().world_size > 1 else "python -m"
    return shlex.join([*several.split(), "golf_fast.train", config.recipe, f"{flag_names('seed')[0]}={config.seed}"])


def _data(shards: dict[str, str]) -> str:
    """The name of the folder that the shards lie in."""
    return next((Path(path).parent.name for path in shards), "unknown data")
