"""The findings of an ablation: differences paired by seed, with their intervals, as a table, a file and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from golf_fast.ablate.variants import MECHANISMS, WHOLE
from golf_fast.files import replacing
from golf_fast.report.pen import Pen
from golf_fast.report.table import Cell, table
from golf_fast.runs.same_text import Shared
from golf_fast.statistics import Interval, mean_interval

LEVEL = 0.95
"""Level of the confidence intervals."""


class Reached(Protocol):
    """The fields of a result that an ablation compares; a `Result`, or a record with these fields."""

    @property
    def val_bpb(self) -> float | None: ...
    @property
    def bpb_without_ttt(self) -> float | None: ...
    @property
    def bpb_before_compression(self) -> float | None: ...
    @property
    def artifact_bytes(self) -> int | None: ...
    @property
    def params(self) -> int: ...
    @property
    def tokens_per_second(self) -> float | None: ...
    @property
    def val_bytes(self) -> int | None: ...
    @property
    def val_tokens(self) -> int | None: ...


class Ended(Protocol):
    """A run of a variant on a seed that has ended; `result` is None if it ended before it was finished."""

    @property
    def variant(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def result(self) -> Reached | None: ...


@dataclass(frozen=True)
class OverShared:
    """A difference over the documents that runs with other tokens both scored alike.

    Attributes:
        shared: these documents, in the runs of the first seed.
        worse_by: this variant minus the whole recipe, bits per byte, paired by seed.
    """

    shared: Shared
    worse_by: Interval


@dataclass(frozen=True)
class Finding:
    """The effect of a variant: of leaving a mechanism out, or of a change.

    Attributes:
        name: name of the variant.
        seeds: seeds on which both this variant and the whole recipe have finished.
        bpb: mean bits per byte over these seeds.
        difference: this variant minus the whole recipe, bits per byte, paired by seed; above 0 where it is worse.
        each: difference on each seed, in bits per byte.
        without_adapting: difference of the scores without test-time training; None where no run has such a score.
        before_compressing: difference of the scores of the weights before compression, without test-time training.
        artifact_bytes: mean difference of the sizes of the artifacts, in bytes.
        params: difference of the numbers of parameters.
        seconds: mean ratio of the times of a training step, variant to whole recipe; None where they are not known.
        scored: bytes and tokens of the validation text that was scored, for the whole recipe and for the variant.
        over_shared: difference over the documents that both scored alike, for a variant with other tokens.
    """

    name: str
    seeds: tuple[int, ...]
    bpb: float
    difference: Interval
    each: tuple[float, ...]
    without_adapting: Interval | None
    before_compressing: Interval | None
    artifact_bytes: float
    params: int
    seconds: float | None
    scored: tuple[tuple[int, int], tuple[int, int]]
    over_shared: OverShared | None = None

    @property
    def adapts(self) -> bool:
        """Whether the difference changes with test-time training."""
        return self.without_adapting is not None and self.without_adapting.mean != self.difference.mean

    @property
    def text(self) -> str:
        """What the variant leaves out or changes, in a few words."""
        return MECHANISMS[self.name].text if self.name in MECHANISMS else "changed"


def findings(outcomes: Iterable[Ended]) -> list[Finding]:
    """A finding for each variant that finished on a seed on which the whole recipe finished too.

    The whole recipe comes first, then the variants by their difference, the largest first.
    """
    results: dict[str, dict[int, Reached]] = {}
    for outcome in outcomes:
        if outcome.result is not None and outcome.result.val_bpb is not None:
            results.setdefault(outcome.variant, {})[outcome.seed] = outcome.result
    whole = results.get(WHOLE, {})
    found = [_finding(name, its, whole) for name, its in results.items() if set(its) & set(whole)]
    return sorted(found, key=lambda each: (each.name != WHOLE, -each.difference.mean))


def _finding(name: str, its: Mapping[int, Reached], whole: Mapping[int, Reached]) -> Finding:
    seeds = tuple(seed for seed in its if seed in whole)
    pairs = [(its[seed], whole[seed]) for seed in seeds]
    each = tuple((one.val_bpb or 0.0) - (other.val_bpb or 0.0) for one, other in pairs)
    one, other = pairs[0]
    return Finding(
        name=name,
        seeds=seeds,
        bpb=fmean(one.val_bpb or 0.0 for one, _ in pairs),
        difference=mean_interval(each, LEVEL),
        each=each,
        without_adapting=_difference(pairs, lambda run: run.bpb_without_ttt),
        before_compressing=_difference(pairs, lambda run: run.bpb_before_compression),
        artifact_bytes=fmean((one.artifact_bytes or 0) - (other.artifact_bytes or 0) for one, other in pairs),
        params=one.params - other.params,
        seconds=_slower(pairs),
        scored=(_scored(other), _scored(one)),
    )


def _difference(pairs: Iterable[tuple[Reached, Reached]], of: Callable[[Reached], float | None]) -> Interval | None:
    """The paired difference of a number, over the pairs in which both have it."""
    values = [(of(one), of(other)) for one, other in pairs]
    known = [one - other for one, other in values if one is not None and other is not None]
    return mean_interval(known, LEVEL) if known else None


def _slower(pairs: Iterable[tuple[Reached, Reached]]) -> float | None:
    """The mean ratio of the times of a training step, the first of each pair to the second.

    It follows from tokens per second, as steps have equally many tokens in all runs.
    """
    speeds = [(one.tokens_per_second, other.tokens_per_second) for one, other in pairs]
    known = [other / one for one, other in speeds if one and other]
    return fmean(known) if known else None


def _scored(run: Reached) -> tuple[int, int]:
    return run.val_bytes or 0, run.val_tokens or 0


def notes(found: Sequence[Finding]) -> list[str]:
    """What to know of a comparison: how its intervals are made, and where tokens stand for another length of text."""
    said = [f"Differences are paired by seed; intervals are of Student's t at {LEVEL:.0%}."]
    for each in found:
        (bytes_, tokens), (own_bytes, own_tokens) = each.scored
        if (own_bytes, own_tokens) != (bytes_, tokens) and tokens and own_tokens:
            said.append(
                f"{each.name}: a token stands for {own_bytes / own_tokens:.3f} bytes of text in place of"
                f" {bytes_ / tokens:.3f}, so that the same number of tokens is another length of text; whole rows are"
                f" scored, {own_bytes:,} bytes in place of {bytes_:,}."
            )
        if over := each.over_shared:
            both = over.shared
            said.append(
                f"{each.name}: over {len(both.documents):,} of {max(both.counts):,} documents, which both scored alike,"
                f" {both.bytes:,} bytes, it is worse by {_pm(over.worse_by)}."
            )
    return said


def as_table(found: Sequence[Finding]) -> str:
    """Aligned text: the whole recipe, then what is lost without each mechanism."""
    headers = ["without", "bits per byte", "worse by", f"+- {LEVEL:.0%}", "not adapting", "before compressing"]
    headers += ["parameters", "bytes", "time a step"]
    return table(headers, [_row(each) for each in found])


def _row(each: Finding) -> list[Cell]:
    if each.name == WHOLE:
        return [f"nothing ({len(each.seeds)} seeds)", each.bpb, *[None] * 7]
    plain, before = each.without_adapting if each.adapts else None, each.before_compressing
    return [
        each.name,
        each.bpb,
        f"{each.difference.mean:+.4f}",
        each.difference.half_width,
        f"{plain.mean:+.4f}" if plain else None,
        f"{before.mean:+.4f}" if before else None,
        f"{each.params:+,}",
        f"{each.artifact_bytes:+,.0f}",
        _times(each.seconds),
    ]


def as_markdown(found: Sequence[Finding]) -> list[str]:
    """The lines of the same as a table for a page, with what each mechanism is and the difference of each seed."""
    adapting = any(each.adapts for each in found)
    headers = ["without", "what it is", "bits per byte", "worse by", "each seed"]
    headers += ["not adapting"] * adapting + ["before compressing", "parameters", "bytes", "time a step"]
    lines = [_cells(headers), _cells(["---"] * len(headers)).replace(" ", "")]
    for each in found:
        if each.name == WHOLE:
            count = f"{len(each.seeds)} seed{'s' * (len(each.seeds) > 1)}"
            whole = ["nothing", f"the recipe, {count}", f"{each.bpb:.4f}"]
            lines.append(_cells(whole + [""] * (len(headers) - len(whole))))
            continue
        row = [f"`{each.name}`", each.text, f"{each.bpb:.4f}", _pm(each.difference)]
        row.append(" ".join(f"{value:+.4f}" for value in each.each))
        row += [_pm(each.without_adapting) if each.adapts else ""] * adapting
        row.append(_pm(each.before_compressing))
        lines.append(_cells([*row, f"{each.params:+,}", f"{each.artifact_bytes:+,.0f}", _times(each.seconds)]))
    return lines


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _pm(interval: Interval | None) -> str:
    if interval is None:
        return ""
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
            "worse_before_compressing": each.before_compressing.mean if each.before_compressing else None,
            "params": each.params,
            "artifact_bytes": each.artifact_bytes,
            "step_seconds_ratio": each.seconds,
            "over_shared_documents": _over_shared(each.over_shared),
        }
        for each in found
    ]


def _over_shared(over: OverShared | None) -> dict[str, Any] | None:
    if over is None:
        return None
    return {
        "documents": len(over.shared.documents),
        "bytes": over.shared.bytes,
        "worse_by": over.worse_by.mean,
        "half_width": over.worse_by.half_width,
    }


def write(
    found: Sequence[Finding], title: str, about: Mapping[str, Any], out: Path, refused: Sequence[str] = ()
) -> None:
    """Leave `ablation.json` and `ablation.md` in a folder.

    Args:
        refused: lines on variants that are not compared.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(out / "ablation.json", "w") as file:
        json.dump({**about, "level": LEVEL, "findings": as_plain(found), "refused": list(refused)}, file, indent=1)
        file.write("\n")
    with replacing(out / "ablation.md", "w") as file:
        file.write("\n".join([f"# {title}", "", *as_markdown(found), "", *notes(found), *refused, ""]))


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
