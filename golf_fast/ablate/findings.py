"""What the runs say: differences paired by seed, with their intervals, as a table, a file and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from golf_fast.ablate.runs import Outcome
from golf_fast.ablate.variants import MECHANISMS, WHOLE
from golf_fast.files import replacing
from golf_fast.report.pen import Pen
from golf_fast.report.table import Cell, table
from golf_fast.runs import Result
from golf_fast.statistics import Interval, mean_interval

LEVEL = 0.95
"""Of the confidence intervals."""


@dataclass(frozen=True)
class Finding:
    """What leaving something out, or changing it, does.

    Attributes:
        seeds: those on which both this variant and the whole recipe have finished.
        bpb: mean bits per byte over these seeds.
        difference: this variant minus the whole recipe, bits per byte, paired by seed; above 0 where it is worse.
        each: the difference of each seed.
        without_adapting: the same difference of the scores without test-time training; None where there is none.
        artifact_bytes, params: mean difference.
        seconds: ratio of the training times.
    """

    name: str
    seeds: tuple[int, ...]
    bpb: float
    difference: Interval
    each: tuple[float, ...]
    without_adapting: Interval | None
    artifact_bytes: float
    params: int
    seconds: float

    @property
    def text(self) -> str:
        """What it is, in a few words."""
        return MECHANISMS[self.name].text if self.name in MECHANISMS else "changed"


def findings(outcomes: Iterable[Outcome]) -> list[Finding]:
    """One for each variant that finished on a seed that the whole recipe finished on too; the worst to miss first."""
    results: dict[str, dict[int, Result]] = {}
    for outcome in outcomes:
        if outcome.result is not None and outcome.result.val_bpb is not None:
            results.setdefault(outcome.variant, {})[outcome.seed] = outcome.result
    whole = results.get(WHOLE, {})
    found = [_finding(name, its, whole) for name, its in results.items() if set(its) & set(whole)]
    return sorted(found, key=lambda each: (each.name != WHOLE, -each.difference.mean))


def _finding(name: str, its: Mapping[int, Result], whole: Mapping[int, Result]) -> Finding:
    seeds = tuple(seed for seed in its if seed in whole)
    pairs = [(its[seed], whole[seed]) for seed in seeds]
    each = tuple((one.val_bpb or 0.0) - (other.val_bpb or 0.0) for one, other in pairs)
    plain = [
        one.bpb_without_ttt - other.bpb_without_ttt
        for one, other in pairs
        if one.bpb_without_ttt is not None and other.bpb_without_ttt is not None
    ]
    return Finding(
        name=name,
        seeds=seeds,
        bpb=fmean(one.val_bpb or 0.0 for one, _ in pairs),
        difference=mean_interval(each, LEVEL),
        each=each,
        without_adapting=mean_interval(plain, LEVEL) if plain else None,
        artifact_bytes=fmean((one.artifact_bytes or 0) - (other.artifact_bytes or 0) for one, other in pairs),
        params=pairs[0][0].params - pairs[0][1].params,
        seconds=fmean(one.train_seconds / max(other.train_seconds, 1e-9) for one, other in pairs),
    )


def as_table(found: Sequence[Finding]) -> str:
    """Aligned text: the whole recipe, then what is lost without each mechanism."""
    headers = ["without", "bits per byte", "worse by", f"+- {LEVEL:.0%}", "not adapting", "parameters", "bytes", "time"]
    return table(headers, [_row(each) for each in found])


def _row(each: Finding) -> list[Cell]:
    if each.name == WHOLE:
        return [f"nothing ({len(each.seeds)} seeds)", each.bpb, None, None, None, None, None, None]
    plain = each.without_adapting
    return [
        each.name,
        each.bpb,
        f"{each.difference.mean:+.4f}",
        each.difference.half_width,
        f"{plain.mean:+.4f}" if plain else None,
        f"{each.params:+,}",
        f"{each.artifact_bytes:+,.0f}",
        f"{each.seconds:.2f}x",
    ]


def as_markdown(found: Sequence[Finding], title: str) -> str:
    """The same as a table for a page, with what each mechanism is and the difference of each seed."""
    lines = [
        f"# {title}",
        "",
        "| without | what it is | bits per byte | worse by | each seed | not adapting | parameters | bytes | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        if each.name == WHOLE:
            lines.append(f"| nothing | the recipe, {len(each.seeds)} seeds | {each.bpb:.4f} | | | | | | |")
            continue
        row = [
            f"`{each.name}`",
            each.text,
            f"{each.bpb:.4f}",
            _pm(each.difference),
            " ".join(f"{value:+.4f}" for value in each.each),
            _pm(each.without_adapting) if each.without_adapting else "",
            f"{each.params:+,}",
            f"{each.artifact_bytes:+,.0f}",
            f"{each.seconds:.2f}x",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, "", f"Differences are paired by seed; intervals are of Student's t at {LEVEL:.0%}.", ""])


def _pm(interval: Interval) -> str:
    if interval.half_width is None:
        return f"{interval.mean:+.4f}"
    return f"{interval.mean:+.4f} +- {interval.half_width:.4f}"


def as_plain(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Plain values, ready for JSON."""
    return [
        {
            "variant": each.name,
            "what": "the whole recipe" if each.name == WHOLE else each.text,
            "seeds": list(each.seeds),
            "bpb": each.bpb,
            "worse_by": each.difference.mean,
            "half_width": each.difference.half_width,
            "worse_by_seed": list(each.each),
            "worse_without_adapting": each.without_adapting.mean if each.without_adapting else None,
            "params": each.params,
            "artifact_bytes": each.artifact_bytes,
            "train_seconds_ratio": each.seconds,
        }
        for each in found
    ]


def write(found: Sequence[Finding], title: str, about: Mapping[str, Any], out: Path) -> None:
    """Leave `ablation.json` and `ablation.md` in a folder.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(out / "ablation.json", "w") as file:
        json.dump({**about, "level": LEVEL, "findings": as_plain(found)}, file, indent=1)
        file.write("\n")
    with replacing(out / "ablation.md", "w") as file:
        file.write(as_markdown(found, title))


def draw(found: Sequence[Finding], title: str, picture: Path) -> None:
    """Draw what is lost without each mechanism: a dot with its interval, and the seeds beside it.

    Args:
        picture: an .svg or .png file.
    """
    shown = [each for each in found if each.name != WHOLE][::-1]
    pen = Pen(picture)
    with pen.figure("ablation", 1.2 + 0.32 * len(shown)) as drawing:
        axes = drawing.axes
        axes.axvline(0, color=pen["--muted"], linewidth=1)
        for row, each in enumerate(shown):
            mean, half = each.difference.mean, each.difference.half_width
            if half is not None:
                axes.plot([mean - half, mean + half], [row, row], color=pen.series(0))
            axes.plot(each.each, [row] * len(each.each), "|", color=pen["--muted"], markersize=7)
            axes.plot([mean], [row], "o", color=pen.series(0), markersize=5)
        axes.set_yticks(range(len(shown)), [each.name for each in shown])
        axes.set_xlabel("bits per byte worse without it")
        axes.set_title(title)
        axes.grid(visible=False, axis="y")
        drawing.finish(f"{title}: what is lost without each mechanism")
