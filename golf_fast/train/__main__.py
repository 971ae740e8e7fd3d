"""The whole pipeline: text -> tokens -> averaged weights -> artifact -> bits per byte.

python -m golf_fast.train [RECIPE] [--train.max-seconds 600 ...]
python -m golf_fast.train --resume runs/RUN_ID
python -m golf_fast.train seed --seeds 42 1337 2024
python -m golf_fast.train seed --train.dry-run
torchrun --standalone --nproc_per_node=8 -m golf_fast.train seed
"""

import os
import sys

import torch

from golf_fast import command_line, recipes
from golf_fast.console import exit_with
from golf_fast.pipeline import resume, seeds
from golf_fast.pipeline.execute import execute

PROG = "python -m golf_fast.train"


def main() -> None:
    """Make the run that the command line and the environment ask for."""
    resumed = resume.asked(sys.argv[1:], PROG)
    if resumed is not None:
        execute(*resumed)
        return
    several = seeds.asked(sys.argv[1:])
    each, rest = several or ([], sys.argv[1:])
    parsed = _parse(rest)
    if parsed.config.train.dry_run:
        from golf_fast.pipeline.dry_run import dry_run  # it needs parts of torch that a run does not

        dry_run(parsed)
    elif several is not None:
        seeds.execute_each(each, lambda seed: _parse([*rest, f"--seed={seed}"]))
    else:
        execute(parsed)


def _parse(arguments: list[str]) -> command_line.Parsed:
    return command_line.parse(
        arguments, os.environ, prog=PROG, default_recipe=lambda: recipes.choose(torch.cuda.is_available())
    )


if __name__ == "__main__":
    exit_with(main, prints=False)
