"""The plots of a run's page, as SVG to stand inside HTML: its colours are the page's, so they follow light and dark."""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stand for the custom properties of the page until the SVG is text.
_INK, _MUTED, _GRID, _FIRST, _SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
_PROPERTIES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--grid", _FIRST: "--first", _SECOND: "--second"}
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "text.color": _INK,
    "legend.frameon": False,
    "legend.labelcolor": _MUTED,
    "lines.linewidth": 1.6,
    "axes.formatter.useoffset": False,
}
FAILURES = (ImportError, OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, MemoryError)
"""What drawing ends with where matplotlib is absent, broken, of another version, or set up for something else."""
_POINTS = 600
_TOKENS_AT_A_TIME = 1 << 22


def training(records: Sequence[Mapping[str, Any]], over: str) -> str:
    """Training loss, validation loss and learning-rate factor over "seconds" or "step"; "" if nothing was recorded."""
    train = [record for record in records if record.get("kind") == "train" and _known(record, over, "loss")]
    if not train:
        return ""
    val = [record for record in records if record.get("kind") == "val" and _known(record, over, "loss")]
    with styled(f"training over {over}") as (figure, axes):
        rates = [record for record in train if _known(record, "lr_factor")]
        axes.plot(*_thinned(train, over, "loss"), color=_FIRST, label="training loss, nats a token")
        if val:
            axes.plot(*_thinned(val, over, "loss"), "o", color=_INK, markersize=3.5, label="validation loss")
        if rates:
            right = axes.twinx()
            x, y = _thinned(rates, over, "lr_factor")
            right.fill_between(x, y, color=_SECOND, alpha=0.16, linewidth=0, label="learning-rate factor")
            right.set(ylim=(0, 1.6), yticks=[0, 0.5, 1])
            right.grid(False)
            axes.set_zorder(right.get_zorder() + 1)
            axes.patch.set_visible(False)
        legend(figure)
        axes.set_xlabel("seconds of training" if over == "seconds" else "step")
        return _svg(figure)


def token_losses(path: Path) -> str:
    """The loss along the validation tokens of a raw float32 file, in means of equal stretches, and its running mean."""
    import numpy as np

    count = path.stat().st_size // 4
    if count == 0:
        return ""
    edges = np.unique(np.linspace(0, count, min(_POINTS // 2, count) + 1).astype(np.int64))
    with path.open("rb") as file:  # not mapped: a file that shrinks meanwhile would end the process
        sums = np.array([_sum(file, start, stop) for start, stop in itertools.pairwise(edges)])
    sizes = np.diff(edges)
    middles = (edges[:-1] + edges[1:]) / 2
    with styled("token losses") as (figure, axes):
        label = f"mean of {sizes.max():,} tokens" if sizes.max() > 1 else "loss of a token"
        axes.plot(middles, sums / sizes, color=_FIRST, linewidth=0.9, label=label)
        axes.plot(edges[1:], sums.cumsum() / edges[1:], color=_INK, label="mean so far")
        legend(figure)
        axes.set(xlabel="validation token", ylabel="nats a token", xlim=(0, count))
        thousands(axes.xaxis)
        return _svg(figure)


def gain(records: Sequence[Mapping[str, Any]]) -> str:
    """Nats a token that adapting gained, along the stream, and in all so far; "" if nothing was recorded."""
    import numpy as np

    found = [record for record in records if record.get("kind") == "gain"]
    found = [record for record in found if _known(record, "start", "stop", "fixed", "adapting")]
    if not found:
        return ""
    columns = [[record[name] for record in found] for name in ("start", "stop", "fixed", "adapting")]
    starts, stops, fixed, adapting = np.array(columns, dtype=np.float64)
    sizes, gained = stops - starts, fixed - adapting
    with styled("gain") as (figure, axes):
        axes.axhline(0, color=_MUTED, linewidth=0.8)
        axes.plot((starts + stops) / 2, gained, color=_FIRST, linewidth=0.9, label=f"mean of {sizes.max():,.0f} tokens")
        axes.plot(stops, (gained * sizes).cumsum() / sizes.cumsum(), color=_INK, label="mean so far")
        legend(figure)
        axes.set(xlabel="validation token", ylabel="nats a token gained", xlim=(0, max(stops.max(), 1)))
        thousands(axes.xaxis)
        return _svg(figure)


def parts(sizes: Mapping[str, int]) -> str:
    """Bytes per part, the largest on top; what does not fit into a dozen bars is summed."""
    if not sizes:
        return ""
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) > 12:
        ordered = [*ordered[:11], (f"{len(ordered) - 11} others", sum(size for _, size in ordered[11:]))]
    names, values = [name for name, _ in ordered], [size for _, size in ordered]
    with styled("parts", height=0.9 + 0.24 * len(names)) as (figure, axes):
        bars = axes.barh(range(len(names)), values, color=_FIRST, height=0.66)
        axes.bar_label(bars, [f"{size:,}" for size in values], padding=4, color=_MUTED)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set(xlabel="bytes", xlim=(0, 1.18 * max(*values, 1)))
        thousands(axes.xaxis)
        return _svg(figure)


def _known(record: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(record.get(name), int | float) for name in names)


def _thinned(records: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of the records, float64 [n], n at most 600: means over equal numbers of records."""
    import numpy as np

    columns = np.array([(record[x], record[y]) for record in records], dtype=np.float64)
    edges = np.unique(np.linspace(0, len(columns), min(_POINTS, len(columns)) + 1).astype(np.int64))
    means = np.add.reduceat(columns, edges[:-1]) / np.diff(edges)[:, None]
    return means[:, 0], means[:, 1]


def _sum(file: BinaryIO, start: int, stop: int) -> float:
    """In float64, a few megabytes at a time: the file may hold 62 million values."""
    import numpy as np

    total = 0.0
    for at in range(start, stop, _TOKENS_AT_A_TIME):
        count = min(_TOKENS_AT_A_TIME, stop - at)
        file.seek(4 * at)
        values = np.frombuffer(file.read(4 * count), dtype="<f4")
        if values.size < count:
            raise ValueError(f"{file.name}: it became shorter while it was read")
        total += float(values.sum(dtype="f8"))
    return total


def legend(figure: Figure) -> None:
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.6)


def thousands(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


@contextmanager
def styled(name: str, height: float = 2.7, colours: Mapping[str, str] | None = None) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the page's style whatever the user's matplotlibrc and MPLBACKEND say; inches.

    `colours` maps the page's custom properties to colours, for a picture that stands outside the page.
    """
    style = _STYLE | {key: colours[_PROPERTIES[of]] for key, of in _STYLE.items() if colours and of in _PROPERTIES}
    # Building its font cache, once on a machine, matplotlib warns that this takes a moment.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with _without_backend():
            import matplotlib.style
            from matplotlib.figure import Figure

        with matplotlib.style.context(["default", {**style, "svg.hashsalt": name}]):
            figure = Figure(figsize=(6.4, height), layout="constrained")
            yield figure, figure.subplots()
    finally:
        logger.setLevel(level)


@contextmanager
def _without_backend() -> Iterator[None]:
    """matplotlib refuses to be imported where MPLBACKEND, a notebook's say, names what is not there; we need none."""
    named = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named


def _svg(figure: Figure) -> str:
    """The figure as an SVG element for HTML: no date, no names of its own, and colours by custom property."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r' id="[A-Za-z0-9_.]+_\d+"', "", text)
    text = re.sub(r'<svg([^>]*) width="[^"]*"', '<svg width="100%"\\1', text, count=1)
    text = re.sub(r'<svg([^>]*) height="[^"]*"', "<svg\\1", text, count=1)
    for colour, name in _PROPERTIES.items():
        text = text.replace(colour, f"var({name})")
    return text.strip()
