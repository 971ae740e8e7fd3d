"""The submission as plots: where its bytes go, and what quantization did to the matrices of each layer."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from golf_fast.report.pen import Pen, thousands
from golf_fast.report.plots.training import of_kind

_BARS = 12
_MARKERS = "os^Dvx"
_IN_A_BLOCK = re.compile(r"blocks\.(\d+)\.(.+?)(?:\.weight)?")


def parts(pen: Pen, sizes: Mapping[str, int]) -> str:
    """Bytes per part, the largest on top; what does not fit into a dozen bars is summed."""
    if not sizes:
        return ""
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) > _BARS:
        ordered = [
            *ordered[: _BARS - 1],
            (f"{len(ordered) - _BARS + 1} others", sum(size for _, size in ordered[_BARS - 1 :])),
        ]
    names, values = [name for name, _ in ordered], [size for _, size in ordered]
    total = sum(values)
    with pen.figure("parts", height=0.9 + 0.24 * len(names)) as drawing:
        axes = drawing.axes
        colours = [
            pen["--second" if name == "code" else "--muted" if name == "header" else "--first"] for name in names
        ]
        bars = axes.barh(range(len(names)), values, color=colours, height=0.66)
        labels = [f"{size:,}  {size / max(total, 1):.1%}" for size in values]
        axes.bar_label(bars, labels, padding=4, color=pen["--muted"])
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set(xlabel="bytes", xlim=(0, 1.36 * max(*values, 1)))
        thousands(axes.xaxis)
        said = ", ".join(f"{name} {size:,}" for name, size in ordered)
        return drawing.finish(f"Bytes of the submission, {total:,} in all: {said}.")


def by_layer(pen: Pen, records: Sequence[Mapping[str, Any]], of: str) -> str:
    """What the matrices of each layer have, by kind of matrix: "bits" a weight, or the relative "error"."""
    kinds: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for record in of_kind(records, "tensor", of):
        if found := _IN_A_BLOCK.fullmatch(str(record.get("name"))):
            kinds[found[2]].append((int(found[1]), float(record[of])))
    if not kinds:
        return ""
    scale = 100 if of == "error" else 1
    with pen.figure(f"layers {of}") as drawing:
        axes = drawing.axes
        for index, (kind, points) in enumerate(sorted(kinds.items())):
            layers, values = zip(*sorted(points), strict=True)
            scaled = [scale * value for value in values]
            marker = _MARKERS[index % len(_MARKERS)]
            axes.plot(layers, scaled, color=pen.series(index), linewidth=1, marker=marker, markersize=4, label=kind)
        drawing.legend()
        axes.set(xlabel="layer", ylabel="bits a weight" if of == "bits" else "error, % of the norm")
        thousands(axes.xaxis)
        every = [scale * value for points in kinds.values() for _, value in points]
        what = "Bits a weight" if of == "bits" else "Error of quantization in %"
        return drawing.finish(
            f"{what} by layer, for {', '.join(sorted(kinds))}: from {min(every):.3g} to {max(every):.3g}."
        )
