"""What each mechanism of a recipe is worth.

Runs the recipe as it is, without each mechanism that is named, and with each change, on the same seeds and the same
number of tokens, given by --steps or by what the first run reaches. Leaves a table, a picture, and a run directory for
each. What is there already is not made again, so that an ablation that was cut short goes on with the same command, and
more seeds or variants can be added to one. A run that was cut short itself is moved aside and made again.

    python -m golf_fast.ablate tiny --drop bigram backout --seeds 3
    python -m golf_fast.ablate tiny_top --drop all --steps 150 --jobs 2 -- --score.ttt=off --compress.report-tokens=0
    python -m golf_fast.ablate tiny --change "wide: --model.dim 256" --steps 100 -- --score.ttt off
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from golf_fast.ablate import findings, unlike_tokens
from golf_fast.ablate.runs import Outcome, Plan, run_all
from golf_fast.ablate.variants import MECHANISMS, mechanisms_of, variants
from golf_fast.arguments import call
from golf_fast.console import exit_with, say
from golf_fast.errors import InputError
from golf_fast.report.pen import FAILURES

MOST_SEEDS = 1000


def ablate(
    recipe: tyro.conf.Positional[str],
    drop: tuple[str, ...] = (),
    change: tuple[str, ...] = (),
    seeds: int = 3,
    first_seed: int = 42,
    steps: int = 0,
    out: Path | None = None,
    ranks: int = 1,
    jobs: int = 1,
    list_: Annotated[bool, tyro.conf.arg(name="list")] = False,
) -> None:
    """Run a recipe as it is and without some of its mechanisms, and say what each is worth.

    What follows a lone "--" are flags of golf_fast.train for every run.

    Args:
        recipe: A recipe of golf_fast.train.
        drop: Mechanisms to leave out, each in a variant of its own; "all" for every one that the recipe has.
        change: Other variants, each a name, a colon and flags of golf_fast.train: "wide: --model.dim 256".
        seeds: Number of seeds; each variant runs once on each.
        first_seed: The first of them; the others follow it.
        steps: Training steps of every run, each with its own schedule over them; 0: as many as the first run reaches by
            its clock, at its rates.
        out: Where runs and results go; by default runs/ablation-RECIPE.
        ranks: Processes of a run, as torchrun starts them.
        jobs: Runs that are made at a time; they share the cores.
        list_: Say which mechanisms the recipe has, and do nothing else.
    """
    common = _common()
    if list_:
        for name in mechanisms_of(recipe, common):
            say(f"{name:20} {MECHANISMS[name].text}")
        return
    for name, value, most in (("--seeds", seeds, MOST_SEEDS), ("--ranks", ranks, 1024), ("--jobs", jobs, 1024)):
        if not 1 <= value <= most:
            raise InputError(f"{name} is {value}: it must be from 1 to {most}")
    if steps < 0:
        raise InputError(f"--steps is {steps}: it must be 0 or more")
    if drop == ("all",):
        drop = tuple(mechanisms_of(recipe, common))
    chosen = variants(recipe, common, drop, change)
    if len(chosen) == 1:
        raise InputError(
            f"nothing to leave out of {recipe}: name some with --drop, of {', '.join(mechanisms_of(recipe))}"
        )
    out = out or Path("runs") / f"ablation-{recipe}"
    plan = Plan(recipe, common, chosen, range(first_seed, first_seed + seeds), steps, out, ranks, jobs)
    _run_and_tell(plan)


def _run_and_tell(plan: Plan) -> None:
    """Make the runs, leave what they say after each, and show it in the end."""
    about = {"recipe": plan.recipe, "flags": list(plan.common), "steps": plan.steps, "ranks": plan.ranks}
    title, out = f"{plan.recipe}, what each mechanism is worth", plan.out
    outcomes, found, refused = list[Outcome](), list[findings.Finding](), list[str]()
    for outcome in run_all(plan, say):
        outcomes.append(outcome)
        found, refused = unlike_tokens.compared(findings.findings(outcomes), outcomes)
        if len(found) > 1:
            findings.write(found, title, about, out, refused)
    if len(found) < 2:
        raise InputError(
            refused[0] if refused else f"{out}: no variant finished beside the recipe itself; *.out there says why"
        )
    say("\n".join([findings.as_table(found), *findings.notes(found), *refused]))
    for picture in ("ablation.png", "ablation.svg"):
        try:
            findings.draw(found, title, out / picture)
        except FAILURES as error:
            say(f"warning: {out / picture} was not drawn ({error})")
    say(f"results: {out}/ablation.md, ablation.json, ablation.png, ablation.svg")
    if failed := [outcome for outcome in outcomes if outcome.result is None]:
        say(f"{len(failed)} of {len(outcomes)} runs failed")
        sys.exit(1)


def _common() -> tuple[str, ...]:
    """The arguments after a lone "--"."""
    return tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else ()


def main() -> None:
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    call(ablate, "python -m golf_fast.ablate", __doc__, own)


if __name__ == "__main__":
    exit_with(main, prints=True)
