"""Runs beside one another as lines for a terminal and as one page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

from golf_fast.report import html
from golf_fast.report.compare.bootstrap import CONFIDENCE, RESAMPLES, SEED, Column, Difference
from golf_fast.report.compare.comparison import Comparison, Row
from golf_fast.report.compare.outcomes import HEADERS
from golf_fast.report.compare.seeds import Seeds
from golf_fast.report.page.figures import Plot
from golf_fast.report.pen import SERIES, Pen, thousands
from golf_fast.report.plots.training import curve, dense, of_kind, smoothed, thinned
from golf_fast.report.table import table

_SHOWN, _LEAST_SHOWN, _IN_ALL = 44, 12, 132
"""Characters of a value in a line, at the most and where many stand beside one another; and of all values together."""
_HASH = re.compile("[0-9a-f]{40,}")
_SHORT = 12
"""Digits of a hash for people; --json has all."""
_BY_PATH = ("validation_shards", "validation_bytes")
"""Fields with an entry for each file, which has another name in each run that has other data."""
_LINES = ("solid", "dashed", "dotted")
"""How lines are drawn: the next where the colours begin again."""
_SEEDS = ("runs that differ by their seed", "mean bits per byte", "95%", "p")
_WELCH = "95%: of the mean, by Student's t; p: of a mean as low if it is as good as the first (Welch, one-sided)"
_INTERVAL = f"{CONFIDENCE:.0%} interval"


def lines(found: Comparison) -> str:
    """What differs, for a terminal."""
    parts = [table(HEADERS, [each.cells for each in found.reached])] if found.reached else []
    for title, rows in (("setting", found.settings), ("result", _by_field(found.results))):
        cells = [[row.name, *(_cut(_shown(value), len(row.values)) for value in row.values)] for row in rows]
        parts.append(table([title, *found.names], cells) if rows else f"{title}s: all the same")
    if found.differences:
        parts.append(table(_headers(found), [_cells(each) for each in found.differences]) + f"\n{_method(found)}")
    parts += [*found.notes, *filter(None, [found.without])]
    if found.seeds:
        parts.append(table(_SEEDS, _groups(found.seeds)) + f"\n{_WELCH}")
    return "\n\n".join(parts)


def page(found: Comparison) -> str:
    """The same with the curves of training, as one HTML page without references to other files."""
    drawn = [
        Plot("by_step", "Training, by step", partial(_training, found=found, over="step")),
        Plot("by_time", "Training, by time", partial(_training, found=found, over="seconds")),
        Plot("differences", f"Difference to {found.names[0]}", lambda pen: _intervals(pen, found)),
        Plot("gain", "What adapting gained along the stream", lambda pen: _gains(pen, found)),
    ]
    table_of = html.table(_headers(found), [_cells(each) for each in found.differences], numbers=(1, 2, 3, 4))
    sure = f"{table_of}<p>{escape(_method(found))}</p>" if found.differences else ""
    sure += "".join(f"<p>{escape(note)}</p>" for note in (*found.notes, found.without) if note)
    curves = "Losses of training are told by the bytes of the validation text that a token stands for in each run."
    return html.document(
        " / ".join(found.names),
        [
            "<header><h1>Runs compared</h1></header>",
            html.section(
                "What each reached", html.table(HEADERS, [each.cells for each in found.reached], (1, 3, 4, 5))
            ),
            html.section("Bits per byte, over documents", sure),
            html.section("Seeds of the same settings", _seeds(found.seeds)),
            html.section("Curves", f"<p>{curves}</p>") if found.token_bytes else "",
            html.plots([(plot.title, plot.svg()) for plot in drawn]),
            html.section("Settings that differ", _rows(found, found.settings)),
            html.section("Results that differ", _rows(found, _by_field(found.results))),
        ],
    )


def _headers(found: Comparison) -> list[str]:
    return [f"against {found.names[0]}", "bits per byte", _INTERVAL, "standard error", "resamples better", ""]


def _cells(each: Difference) -> list[str]:
    verdict = ("better" if each.bpb < 0 else "worse") if each.sure else "not told apart"
    if each.low is None or each.high is None or each.error is None or each.better is None:
        return [each.run, f"{each.bpb:+.5f}", "-", "-", "-", "one document tells no spread"]
    return [
        each.run,
        f"{each.bpb:+.5f}",
        f"{each.low:+.5f} to {each.high:+.5f}",
        f"{each.error:.5f}",
        f"{each.better:.1%}",
        verdict,
    ]


def _groups(groups: Sequence[Seeds]) -> list[list[str]]:
    return [
        [
            ", ".join(each.runs),
            f"{each.mean:.5f}",
            "-" if each.half_width is None else f"± {each.half_width:.5f}",
            "-" if each.p is None else f"{each.p:.4f}",
        ]
        for each in groups
    ]


def _seeds(groups: Sequence[Seeds]) -> str:
    return f"{html.table(_SEEDS, _groups(groups), numbers=(1, 2, 3))}<p>{_WELCH}</p>" if groups else ""


def _method(found: Comparison) -> str:
    counts = sorted({each.documents for each in found.differences})
    documents = " and ".join(f"{count:,}" for count in counts)
    return f"paired bootstrap over {documents} documents, {RESAMPLES:,} resamples, seed {SEED}; below 0 is better"


def _rows(found: Comparison, rows: Sequence[Row]) -> str:
    if not rows:
        return "<p>All are the same.</p>"
    return html.table(["field", *found.names], [[row.name, *map(_shown, row.values)] for row in rows])


def _by_field(rows: Sequence[Row]) -> list[Row]:
    """The rows, with one row for each field that has an entry for each file (`_BY_PATH`)."""
    found: dict[str, Row] = {}
    for row in rows:
        field = row.name.partition(".")[0]
        if field not in _BY_PATH:
            found[row.name] = row
            continue
        before = found[field].values if field in found else [""] * len(row.values)
        entries = ["" if value is None else _shown(value) for value in row.values]
        found[field] = Row(field, [", ".join(filter(None, both)) for both in zip(before, entries, strict=True)])
    return [Row(row.name, [None if value == "" else value for value in row.values]) for row in found.values()]


def _shown(value: Any) -> str:
    """A value for people; a hash is cut to its first digits."""
    text = html.shown(value)
    return f"{text[:_SHORT]}..." if _HASH.fullmatch(text) else text


def _cut(text: str, beside: int) -> str:
    """A value on one line, cut to a length that leaves room for `beside` values side by side."""
    text, most = text.replace("\n", "; "), min(_SHOWN, max(_LEAST_SHOWN + 3, _IN_ALL // beside))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _training(pen: Pen, found: Comparison, over: str) -> str:
    held, unit = _losses(found, over)
    if not held:
        return ""
    with pen.figure(f"compared over {over}", _height(len(held))) as drawing:
        late, ends = [], []
        for place, name, (x, losses) in held:
            colour, course = pen.series(place), smoothed(losses) if dense(losses) else losses
            line: dict[str, Any] = {"color": colour, "linestyle": _line(place)}
            if dense(losses):
                drawing.axes.plot(*thinned(x, losses), color=colour, linewidth=0.7, alpha=0.35)
            drawing.axes.plot(*thinned(x, course), label=name, **line)
            late += course[min(len(course) - 1, 10 + len(course) // 20) :].tolist()
            ends.append(f"{name} {course[-1]:.3f}")
        # The losses of the first steps would leave no room to tell the later ones apart.
        drawing.axes.set_ylim(min(late) - 0.1, max(late) + 0.3)
        drawing.axes.set(xlabel="seconds of training" if over == "seconds" else "step", ylabel=unit)
        drawing.legend(2)
        return drawing.finish(f"Training loss at the end, in {unit}: {', '.join(ends)}.")


def _losses(found: Comparison, over: str) -> tuple[list[tuple[int, str, tuple[Column, Column]]], str]:
    """Place, name, and the training loss of each run that has one over "step" or "seconds"; and its unit.

    A token is another length of text under another tokenizer: then losses are told by the bytes of the validation text
    that a token stands for, which are nearly those of the training text.
    """
    curves = [curve(records, over) for records in found.records]
    held = [(place, found.names[place], each) for place, each in enumerate(curves) if each is not None]
    if not found.token_bytes:
        return held, "nats a token"
    told = []
    for place, name, (x, losses) in held:
        size = found.token_bytes[place]
        if size:
            told.append((place, name, (x, losses / (size * math.log(2)))))
    return told, "bits per byte"


def _line(place: int) -> str:
    return _LINES[place // len(SERIES) % len(_LINES)]


def _height(runs: int) -> float:
    """Height in inches of a plot whose legend names `runs` runs, two in a row."""
    return 2.7 + 0.2 * max(0, (runs + 1) // 2 - 1)


def _intervals(pen: Pen, found: Comparison) -> str:
    shown = found.differences
    if not shown:
        return ""
    with pen.figure("differences", height=1.0 + 0.34 * len(shown)) as drawing:
        axes = drawing.axes
        axes.axvline(0, color=pen["--muted"], linewidth=1)
        for row, each in enumerate(shown):
            colour = pen.series(found.names.index(each.run))
            if each.low is not None and each.high is not None:
                axes.plot([each.low, each.high], [row, row], color=colour, linewidth=3)
            axes.plot([each.bpb], [row], "o", color=colour, markersize=6)
        axes.set_yticks(range(len(shown)), [each.run for each in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set(xlabel=f"bits per byte, with the {_INTERVAL}; left of 0 is better")
        said = "; ".join(f"{cells[0]} {cells[1]} ({cells[2]})" for cells in map(_cells, shown))
        return drawing.finish(f"Difference in bits per byte with the {_INTERVAL}: {said}.")


def _gains(pen: Pen, found: Comparison) -> str:
    held = [of_kind(records, "gain", "start", "stop", "fixed", "adapting") for records in found.records]
    if found.token_bytes or not any(held):  # tokens of different runs are not the same text
        return ""
    with pen.figure("gains compared", _height(len(held))) as drawing:
        drawing.axes.axhline(0, color=pen["--muted"], linewidth=0.8)
        for place, (name, records) in enumerate(zip(found.names, held, strict=True)):
            total, so_far = 0.0, []
            for each in records:
                total += (each["stop"] - each["start"]) * (each["fixed"] - each["adapting"])
                so_far.append((each["stop"], total / max(each["stop"], 1)))
            if so_far:
                line: dict[str, Any] = {"color": pen.series(place), "linestyle": _line(place)}
                drawing.axes.plot(*zip(*so_far, strict=True), label=name, **line)
        drawing.axes.set(xlabel="validation token", ylabel="nats a token gained so far")
        thousands(drawing.axes.xaxis)
        drawing.legend(2)
        return drawing.finish("What adapting gained so far, in nats a token, along the stream.")
