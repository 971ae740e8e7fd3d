"""An ablation on record: `python -m benchmarks ablation runs/ablation-tiny_top`

Takes what `python -m golf_fast.ablate` left, writes a line for each of its runs to ablation_RECIPE.jsonl and a picture
beside it, and puts the table into the page that has a place for it. Without a folder the page is made anew of what is
on record. The runs must be of the code of this checkout; record them where they were made.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.recipes import require_own_code
from golf_fast import json_files
from golf_fast.ablate import findings
from golf_fast.ablate.variants import MECHANISMS, WHOLE
from golf_fast.arguments import Parser, a_path
from golf_fast.command_line import as_flags, differences
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, replacing
from golf_fast.from_plain import from_plain
from golf_fast.runs import FinishedRun

OP = "ablation"
PAGE = Path(__file__).parents[1] / "docs" / "top.md"
_PLACES = ("seed", "run_id", "runs_dir", "train.max_steps", "train.max_seconds", "train.replay_schedule")
"""Fields that differ between the runs of one variant, or that determine their number of steps."""


@dataclass(frozen=True)
class Run:
    """A line of the record: a run of a variant on a seed. Scores are named as in a run's result.

    Attributes:
        flags: flags of all variants.
        changed: flags of this variant.
    """

    op: str
    recipe: str
    variant: str
    seed: int
    flags: list[str]
    changed: list[str]
    steps: int
    val_bpb: float
    bpb_without_ttt: float | None
    bpb_before_compression: float | None
    artifact_bytes: int
    params: int
    train_seconds: float
    tokens_per_second: float | None
    val_bytes: int
    val_tokens: int
    legal: bool
    time: str
    device: str
    device_kind: str
    cpu: str
    versions: dict[str, str]
    commit: str

    @property
    def result(self) -> Run:
        """The run itself, as every recorded run has finished."""
        return self


def main(arguments: Sequence[str]) -> None:
    parser = Parser(
        prog="python -m benchmarks ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=a_path, metavar="FOLDER", help="what golf_fast.ablate left (--out)")
    parser.add_argument("--page", type=a_path, default=PAGE, metavar="FILE", help="the page with a place for the table")
    results.add_option(parser)
    options = parser.parse_args(arguments)
    if options.folder is not None:
        runs = recorded(options.folder)
        path = results.folder() / f"{OP}_{runs[0].recipe}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "w") as file:
            file.writelines(json.dumps(asdict(run)) + "\n" for run in runs)
        findings.draw(findings.findings(runs), _title(runs), path.with_suffix(".svg"))
        print(f"{path}: {len(runs)} runs; {path.with_suffix('.svg')}")
    paths = sorted(results.folder().glob(f"{OP}_*.jsonl"))
    text = read_bytes(options.page, "a page is needed").decode()
    for path in paths:
        text = with_table(text, read(path), options.page)
    if not paths:
        raise InputError(f"{results.folder()}: has no {OP}_*.jsonl; name a folder that golf_fast.ablate left")
    with replacing(options.page, "w") as file:
        file.write(text)
    print(f"{options.page}: written")


def recorded(folder: Path) -> list[Run]:
    """The finished runs of an ablation, those of the whole recipe first.

    Raises:
        InputError: the folder is not that of an ablation, a run was made by other code, or there is nothing to compare.
    """
    about = json_files.read_object(folder / "ablation.json", "the folder of an ablation is needed")
    found = [FinishedRun(path.parent) for path in sorted(folder.glob("*/result.json"))]
    found = [run for run in found if re.fullmatch(r".+-\d+", run.paths.folder.name)]
    names = [run.paths.folder.name.rpartition("-")[0] for run in found]
    if WHOLE not in names or len(set(names)) < 2:
        raise InputError(f"{folder}: has no finished run of the recipe and of a variant; run golf_fast.ablate again")
    whole = found[names.index(WHOLE)].config
    runs = [_run(run, name, whole, about.get("flags", [])) for run, name in zip(found, names, strict=True)]
    if len(steps := {run.steps for run in runs}) > 1:
        raise InputError(f"{folder}: has runs of {' and '.join(map(str, sorted(steps)))} steps; all must have as many")
    return sorted(runs, key=lambda run: (run.variant != WHOLE, run.variant, run.seed))


def _run(run: FinishedRun, variant: str, whole: RunConfig, flags: list[str]) -> Run:
    result, config, folder = run.result(), run.config, run.paths.folder
    require_own_code(run)
    around = results.environment("cpu" if "CPU" in result.device else "cuda")
    values = {
        name: getattr(result, name)
        for name in (
            *("seed", "steps", "val_bpb", "bpb_without_ttt", "bpb_before_compression", "artifact_bytes", "params"),
            *("train_seconds", "tokens_per_second", "val_bytes", "val_tokens", "legal", "versions", "device"),
        )
    }
    changed = {field: value for field, (value, _) in differences(config, whole).items() if field not in _PLACES}
    words = [word for field, value in changed.items() for word in as_flags(field, value)]
    held = {"op": OP, "recipe": config.recipe, "variant": variant, "flags": flags, "changed": words} | values
    held |= {name: around[name] for name in ("time", "device_kind", "cpu", "commit")}
    return from_plain(Run, held, folder)


def read(path: Path) -> list[Run]:
    """The lines of a record.

    Raises:
        InputError: a line is not from an ablation, or there are no lines.
    """
    lines = json_files.lines(path, "a record of an ablation is needed")
    runs = [from_plain(Run, held, Path(f"{path}: line {number}")) for number, held in lines]
    if not runs:
        raise InputError(f"{path}: is empty; a record of an ablation has a line for each run")
    return runs


def with_table(text: str, runs: Sequence[Run], page: Path) -> str:
    """The text of a page with the table of an ablation inserted between two comments.

    Raises:
        InputError: the page does not have these comments.
    """
    start, end = (f"<!-- {mark}ablation {runs[0].recipe} -->" for mark in ("", "end of "))
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise InputError(f"{page}: has no place for the table, the lines {start} and {end}")
    return "\n".join([f"{before}{start}", *section(runs), f"{end}{after}"])


def section(runs: Sequence[Run]) -> list[str]:
    """The lines of a page on an ablation: how it was made, its table, its picture; of seeds that a variant ran on."""
    compared = {run.seed for run in runs if run.variant != WHOLE}
    runs = [run for run in runs if run.seed in compared]
    found, first = findings.findings(runs), runs[0]
    seeds = sorted({run.seed for run in runs})
    made = (
        f"{first.steps:,} steps each, seeds {', '.join(map(str, seeds))}; {first.cpu}, {first.device}, torch"
        f" {first.versions.get('torch', 'unknown')}, commit {first.commit}:"
    )
    picture = f"../benchmarks/results/{OP}_{first.recipe}.svg"
    return [
        made,
        "",
        "```sh",
        command(runs),
        "```",
        "",
        *findings.as_markdown(found),
        "",
        " ".join(findings.notes(found)),
        "",
        f"![{_title(runs)}: bits per byte lost without each mechanism, with intervals]({picture})",
    ]


def command(runs: Sequence[Run]) -> str:
    """The command that makes these runs."""
    changes: Mapping[str, list[str]] = {run.variant: run.changed for run in runs if run.variant != WHOLE}
    words: list[Any] = ["python", "-m", "golf_fast.ablate", runs[0].recipe]
    if dropped := [name for name in changes if name in MECHANISMS]:
        words += ["--drop", *dropped]
    if others := [f"{name}: {shlex.join(flags)}" for name, flags in changes.items() if name not in MECHANISMS]:
        words += ["--change", *others]
    seeds = {run.seed for run in runs}
    words += ["--steps", runs[0].steps, "--seeds", len(seeds), "--first-seed", min(seeds)]
    return shlex.join(map(str, [*words, *(["--", *runs[0].flags] if runs[0].flags else [])]))


def _title(runs: Sequence[Run]) -> str:
    return f"{runs[0].recipe}, what each mechanism is worth"
