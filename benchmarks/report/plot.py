"""How much faster or slower than each peer: one panel a device, one row a case."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from golf_fast.files import replacing

MARKERS = "osD^vPX*"
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.26, 1.3, 9.0


def write(path: Path, runs: list[list[dict[str, Any]]]) -> None:
    """Draw the ratios of `report.newest_runs` with p20 to p80 as an SVG file.

    Raises:
        InputError: the file cannot be written.
    """
    write_svg(path, lambda: draw(runs))


def write_svg(path: Path, draw: Callable[[], Figure]) -> None:
    """Write the figure that `draw` makes as an SVG file, the same bytes for the same figure.

    Raises:
        InputError: the file cannot be written.
    """
    with matplotlib.rc_context({"svg.hashsalt": "golf_fast", "font.size": 9}):
        image = io.BytesIO()
        draw().savefig(image, format="svg", metadata={"Date": None})
    with replacing(path) as file:
        file.write(image.getvalue())


def draw(runs: list[list[dict[str, Any]]]) -> Figure:
    """The figure: above 1 ours is faster."""
    devices = sorted({run[0]["device"] for run in runs})
    peers = sorted({row["peer"] for run in runs for row in run})
    counts = [sum(run[0]["device"] == device for run in runs) for device in devices]
    height = sum(count * ROW_INCHES + HEAD_INCHES for count in counts)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    panels = figure.subplots(
        len(devices), squeeze=False, gridspec_kw={"height_ratios": [count + 2 for count in counts]}
    )[:, 0]
    colors = matplotlib.colormaps["tab10"]
    for panel, device in zip(panels, devices, strict=True):
        own = [run for run in runs if run[0]["device"] == device]
        for index, peer in enumerate(peers):
            points = [
                (row["ratio"], position, row["ratio"] - row["ratio_p20"], row["ratio_p80"] - row["ratio"])
                for position, run in enumerate(own)
                for row in run
                if row["peer"] == peer
            ]
            if not points:
                continue
            ratios, positions, below, above = zip(*points, strict=True)
            panel.errorbar(
                ratios,
                positions,
                xerr=([max(b, 0) for b in below], [max(a, 0) for a in above]),
                fmt=MARKERS[index % len(MARKERS)],
                color=colors(index % 10),
                label=peer,
                markersize=5,
                elinewidth=1,
            )
        panel.axvline(1.0, color="0.4", linewidth=1)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_yticks(
            range(len(own)), [f"{run[0]['op']}: {run[0]['case']} ({run[0]['implementation']})" for run in own]
        )
        panel.set_ylim(len(own) - 0.5, -0.5)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.set_title(device, loc="left", fontweight="bold")
        panel.set_xlabel("peer's time / ours: above 1 ours is faster (median, p20 to p80)")
        panel.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    return figure
