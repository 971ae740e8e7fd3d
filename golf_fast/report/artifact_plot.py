"""Draws the size of an artifact by tensor into an image file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from golf_fast.errors import InputError
from golf_fast.report.pen import Pen, thousands

SUFFIXES = (".svg", ".png")
MOST_BARS = 60

_WIDTH = 6.4
"""Width of the picture, in inches."""


class Bar(Protocol):
    """The size of a tensor, or of a group of tensors with the same role."""

    @property
    def name(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def size(self) -> float: ...
    @property
    def entropy(self) -> float: ...


def check_suffix(path: Path) -> None:
    """Raises:
    InputError: `draw` makes no such picture.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: is no picture that can be drawn; its name must end in {' or '.join(SUFFIXES)}")


def draw(bars: Sequence[Bar], rest: int, title: str, path: Path) -> None:
    """Draw bytes by tensor, coloured by form, with a mark at the order-0 entropy of each.

    Args:
        bars: the largest first; those after the 60th are left out of the picture, which says how many.
        rest: bytes of the file that belong to no tensor.
        path: an SVG, whose text stays text, or a PNG; replaced if it is there.

    Raises:
        InputError: the file cannot be written, or its suffix is another.
    """
    check_suffix(path)
    shown = bars[:MOST_BARS]
    names = [_plain(bar.name) for bar in shown] + ["header and checksum"]
    sizes = [bar.size for bar in shown] + [float(rest)]
    forms, pen = list(dict.fromkeys(bar.form for bar in shown)), Pen(path)
    colours = {form: pen.series(index) for index, form in enumerate(forms)}
    with pen.figure("artifact", 1.3 + 0.22 * len(names), width=_WIDTH) as drawing:
        axes = drawing.axes
        for form in forms:
            rows = [row for row, bar in enumerate(shown) if bar.form == form]
            axes.barh(rows, [sizes[row] for row in rows], color=colours[form], height=0.68, label=form)
        axes.barh([len(shown)], [rest], color=pen["--grid"], height=0.68)
        bounds = [bar.entropy for bar in shown]
        axes.plot(bounds, range(len(shown)), "|", color=pen["--ink"], markersize=9, label="order-0 entropy")
        widest = max([*sizes, *bounds, 1.0])
        for row, size in enumerate(sizes):
            end = max(size, bounds[row]) if row < len(bounds) else size
            axes.text(end + 0.012 * widest, row, f"{size:,.0f}", color=pen["--muted"], va="center")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(False, axis="y")
        left_out = f"; {len(bars) - len(shown)} smaller ones are not shown" if len(bars) > len(shown) else ""
        axes.set(xlabel=f"bytes{left_out}", xlim=(0, 1.18 * widest), title=_plain(title))
        thousands(axes.xaxis)
        drawing.legend()
        drawing.finish(title)


def _plain(name: str) -> str:
    """A name from a file as ASCII that every font has and XML allows, at most 60 characters."""
    text = re.sub(r"[^ -~]", lambda found: ascii(found[0])[1:-1], name)
    return text if len(text) <= 60 else f"{text[:57]}..."
