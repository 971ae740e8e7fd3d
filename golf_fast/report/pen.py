"""Draws plots with matplotlib, either as SVG for a page with light and dark colours, or into an image file."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golf_fast.errors import printable
from golf_fast.files import replacing
from golf_fast.report.style import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAILURES = (ImportError, OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, MemoryError)
"""Exceptions of drawing if matplotlib is missing, broken, of another version, or configured differently."""
SERIES = ("--first", "--second", "--third", "--fourth", "--fifth", "--sixth")
"""Custom properties of the page for the colours of the lines of a plot, in order."""
_LIGHT = dict(re.findall(r"(--\w+): (#\w{6})", STYLE.split("@media")[0]))
_STAND_INS = {name: f"#{number:02x}{number:02x}{number:02x}" for number, name in enumerate(_LIGHT, start=1)}
"""Placeholder colours for the custom properties of the page, which are replaced in the text of the SVG."""
_WIDTH = 5.6
"""Width of a plot, in inches."""
_PNG_DPI = 160
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # dollar signs in names are literal
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "axes.formatter.useoffset": False,
}
_COLOURED = {
    "--ink": ("axes.titlecolor", "text.color"),
    "--muted": ("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor", "legend.labelcolor"),
    "--grid": ("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"),
}


class Pen:
    """Draws plots in the page's style, whatever the user's matplotlibrc and MPLBACKEND say.

    Args:
        picture: an .svg or .png file for the plot, in light colours; None: the plot becomes an SVG element for a page.
    """

    def __init__(self, picture: Path | None = None) -> None:
        self.picture = picture
        self._colours = _LIGHT if picture else _STAND_INS

    def __getitem__(self, name: str) -> str:
        """The colour to draw with for a custom property of the page, such as "--ink"."""
        return self._colours[name]

    def series(self, index: int) -> str:
        """The colour of a line, by its number; they repeat after the sixth."""
        return self[SERIES[index % len(SERIES)]]

    @contextmanager
    def figure(self, name: str, height: float = 2.7, rows: int = 1, width: float = _WIDTH) -> Iterator[Drawing]:
        """A new figure; the block draws on it.

        Args:
            name: name that is unique on the page, which keeps the ids of its SVG elements distinct.
            height, width: size in inches.
            rows: number of axes, below one another with a common x axis.
        """
        style: dict[str, Any] = {**_STYLE, "svg.hashsalt": name}
        style |= {key: self[property] for property, keys in _COLOURED.items() for key in keys}
        # Building its font cache, once on a machine, matplotlib warns that this takes a moment.
        logger = logging.getLogger("matplotlib")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            with _without_backend():
                import matplotlib.style
                from matplotlib.figure import Figure

            with matplotlib.style.context(["default", style]):
                figure = Figure(figsize=(width, height), layout="constrained")
                yield Drawing(figure, list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]), self)
        finally:
            logger.setLevel(level)


class Drawing:
    """A figure that is being drawn.

    Attributes:
        figure: the matplotlib figure.
        rows: its axes, from the top.
    """

    def __init__(self, figure: Figure, rows: list[Axes], pen: Pen) -> None:
        self.figure = figure
        self.rows = rows
        self._pen = pen

    @property
    def axes(self) -> Axes:
        """The first axes."""
        return self.rows[0]

    def legend(self, columns: int = 3) -> None:
        """Name what is drawn, above the axes."""
        self.figure.legend(loc="outside upper left", ncols=columns, handlelength=1.4, columnspacing=1.4)

    def finish(self, alternative: str) -> str:
        """Write the picture; or the SVG element, for a page.

        Args:
            alternative: alternative text of the plot.

        Raises:
            InputError: the picture cannot be written.
        """
        if self._pen.picture is None:
            return _svg(self.figure, alternative)
        form = self._pen.picture.suffix.lower()[1:]
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        with replacing(self._pen.picture) as file:
            self.figure.savefig(file, format=form, facecolor=self._pen["--card"], dpi=_PNG_DPI, metadata=metadata)
        return ""


def thousands(axis: Any) -> None:
    """Whole numbers with separators along an axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


@contextmanager
def _without_backend() -> Iterator[None]:
    """Import matplotlib without MPLBACKEND, which may name a missing backend (as of a notebook); none is needed."""
    named = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named


def _svg(figure: Figure, alternative: str) -> str:
    """The figure as an SVG element for HTML: no date, no names of its own, and colours by custom property."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r' id="[A-Za-z0-9_.]+_\d+"', "", text)
    label = escape(printable(alternative))
    text = re.sub(r'<svg([^>]*) width="[^"]*"', '<svg width="100%"\\1', text, count=1)
    text = re.sub(r'<svg([^>]*) height="[^"]*"', "<svg\\1", text, count=1)
    for name, colour in _STAND_INS.items():
        text = text.replace(colour, f"var({name})")
    return text.strip().replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
