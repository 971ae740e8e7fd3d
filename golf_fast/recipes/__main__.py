"""The recipes: what each is, what it changes against the one that it builds on, and what it reached.

python -m golf_fast.recipes
python -m golf_fast.recipes tiny_top
python -m golf_fast.recipes --json

Measured are runs of this package, each on the validation text of its own data; published are scores of the submissions
that recipes build again, on the documents of the challenge.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Sequence

from golf_fast.arguments import Parser
from golf_fast.command_line import shown
from golf_fast.console import exit_with, say
from golf_fast.recipes import RECIPES, measured
from golf_fast.recipes.described import Described, describe
from golf_fast.report.table import table
from golf_fast.statistics import Interval

_NARROWEST, _WIDEST = 60, 110


def main() -> None:
    parser = Parser(
        prog="python -m golf_fast.recipes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="show this recipe in full")
    parser.add_argument("--json", action="store_true", help="print JSON: a list, or with a name an object")
    options = parser.parse_args()
    runs = measured.read()
    chosen = [describe(name, runs) for name in ([options.name] if options.name else RECIPES)]
    if options.json:
        held = [as_plain(each) for each in chosen]
        print(json.dumps(held[0] if options.name else held, indent=1))
    else:
        width = max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))
        say("\n".join(in_full(chosen[0], width) if options.name else overview(chosen, width)))


def overview(recipes: Sequence[Described], width: int) -> list[str]:
    """A line for each recipe, then what each is and which fields it changes."""
    headers = ["recipe", "parameters", "builds on", "measured", "bytes", "published"]
    rows = [
        [
            each.name,
            each.parameters,
            each.built_on or None,
            _score(each.measured.bpb) + _unless_legal(each.measured.legal) if each.measured else None,
            each.measured.total_bytes if each.measured else None,
            f"{each.published.bpb}{_unless_legal(each.published.legal)}" if each.published else None,
        ]
        for each in recipes
    ]
    lines = [table(headers, rows), "", "Scores are in bits per byte; NAME shows of what text, and how it was measured."]
    for each in recipes:
        lines += ["", *_wrapped(f"{each.name}: {each.text or 'no text'}", width, "")]
        if each.built_on:
            gained = f" ({_score(each.gained, '+')} bits per byte)" if each.gained else ""
            lines += _wrapped(f"against {each.built_on}{gained}: {_fields(each)}", width, "  ")
    return lines


def in_full(recipe: Described, width: int) -> list[str]:
    """Everything about one recipe."""
    lines = [*_wrapped(f"{recipe.name}: {recipe.text}", width, ""), ""]
    lines += _wrapped(f"parameters: {recipe.parameters:,}", width, "")
    lines += _wrapped(f"measured: {_measured(recipe)}", width, "")
    if recipe.gained:
        lines += _wrapped(f"against {recipe.built_on}: {_score(recipe.gained, '+')} bits per byte, by seed", width, "")
    if published := recipe.published:
        score = f"published: {published.bpb} bits per byte of FineWeb ({published.submission}; {published.note})"
        lines += _wrapped(score, width, "")
    lines += ["", "train:"]
    if recipe.variant:
        lines.append(f"  python -m golf_fast.data fetch --variant {recipe.variant}")
        lines.append("  torchrun --standalone --nproc_per_node=8 -m golf_fast.train " + recipe.name)
    lines.append(f"  {recipe.command}")
    if recipe.built_on:
        lines += ["", f"against {recipe.built_on}:"]
        rows = [[field, shown(there), shown(here)] for field, (there, here) in recipe.changes.items()]
        lines += [f"  {line}" for line in table(["setting", recipe.built_on, recipe.name], rows).splitlines()]
        lines += ["", "the same by flags:"]
        words = _wrapped(recipe.command_of_parent, width - 2, "  ")
        lines += [*(f"{line} \\" for line in words[:-1]), words[-1]]
    return lines


def _measured(recipe: Described) -> str:
    if recipe.measured is None:
        return "no run of it as it is now is on record"
    group, first = recipe.measured, recipe.measured.first
    plain, before = (group.mean(name) for name in ("bpb_without_adapting", "bpb_before_compression"))
    said = [
        f"{_score(group.bpb)} bits per byte of {first.data}",
        f"seeds {', '.join(str(run.seed) for run in group.runs)}",
        *([f"{plain:.4f} without adapting"] if plain is not None else []),
        *([f"{before:.4f} before compressing"] if before is not None else []),
        f"{group.total_bytes:,} bytes with the code",
        f"{round(group.mean('steps') or 0):,} steps in {group.mean('train_seconds'):.0f} s",
        "legal" if group.legal else f"not legal ({', '.join(first.violations or first.not_judged)})",
        f"{first.cpu}, {first.device}, torch {first.versions.get('torch', 'unknown')}, commit {first.commit}",
        first.command,
    ]
    return "; ".join(said)


def _unless_legal(legal: bool) -> str:
    return "" if legal else " (not legal)"


def _score(interval: Interval, sign: str = "") -> str:
    half = f" +- {interval.half_width:.4f}" if interval.half_width is not None else ""
    return f"{interval.mean:{sign}.4f}{half}"


def _fields(recipe: Described) -> str:
    return "; ".join(f"{stage}: {', '.join(names)}" for stage, names in recipe.by_stage.items())


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)


def as_plain(recipe: Described) -> dict[str, object]:
    """Plain values, ready for JSON."""
    return {
        "recipe": recipe.name,
        "text": recipe.text,
        "built_on": recipe.built_on or None,
        "changes": {
            field: {"there": _plain(there), "here": _plain(here)} for field, (there, here) in recipe.changes.items()
        },
        "flags": recipe.flags,
        "parameters": recipe.parameters,
        "variant": recipe.variant or None,
        "command": recipe.command,
        "measured": [vars(run) for run in recipe.measured.runs] if recipe.measured else [],
        "gained": vars(recipe.gained) if recipe.gained else None,
        "published": vars(recipe.published) if recipe.published else None,
    }


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


if __name__ == "__main__":
    exit_with(main)
