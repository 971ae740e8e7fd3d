"""The validation tokens as plots: their loss along the stream, and what adapting gained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from golf_fast.report.pen import Pen, thousands
from golf_fast.report.plots.training import of_kind

_STRETCHES = 300
_TOKENS_AT_A_TIME = 1 << 22


def loss_along(pen: Pen, path: Path) -> str:
    """The loss along the validation tokens of a raw float32 file, in means of equal stretches, and its running mean."""
    import numpy as np

    count = path.stat().st_size // 4
    if count == 0:
        return ""
    edges = np.unique(np.linspace(0, count, min(_STRETCHES, count) + 1).astype(np.int64))
    with path.open("rb") as file:  # not mapped: a file that shrinks meanwhile would end the process
        sums = np.array([_sum(file, start, stop) for start, stop in itertools.pairwise(edges)])
    sizes = np.diff(edges)
    middles = (edges[:-1] + edges[1:]) / 2
    means = sums.cumsum() / edges[1:]
    with pen.figure("token losses") as drawing:
        axes = drawing.axes
        label = f"mean of {sizes.max():,} tokens" if sizes.max() > 1 else "loss of a token"
        axes.plot(middles, sums / sizes, color=pen["--first"], linewidth=0.9, label=label)
        axes.plot(edges[1:], means, color=pen["--ink"], label="mean so far")
        drawing.legend()
        axes.set(xlabel="validation token", ylabel="nats a token", xlim=(0, count))
        thousands(axes.xaxis)
        return drawing.finish(f"Loss along {count:,} validation tokens: {means[-1]:.4f} nats a token in the mean.")


def gain(pen: Pen, records: Sequence[Mapping[str, Any]]) -> str:
    """Nats a token that adapting gained, along the stream, and in all so far."""
    import numpy as np

    found = of_kind(records, "gain", "start", "stop", "fixed", "adapting")
    if not found:
        return ""
    columns = [[record[name] for record in found] for name in ("start", "stop", "fixed", "adapting")]
    starts, stops, fixed, adapting = np.array(columns, dtype=np.float64)
    sizes, gained = stops - starts, fixed - adapting
    means = (gained * sizes).cumsum() / sizes.cumsum()
    with pen.figure("gain") as drawing:
        axes = drawing.axes
        axes.axhline(0, color=pen["--muted"], linewidth=0.8)
        label = f"mean of {sizes.max():,.0f} tokens"
        axes.plot((starts + stops) / 2, gained, color=pen["--first"], linewidth=0.9, label=label)
        axes.plot(stops, means, color=pen["--ink"], label="mean so far")
        drawing.legend()
        axes.set(xlabel="validation token", ylabel="nats a token gained", xlim=(0, max(stops.max(), 1)))
        thousands(axes.xaxis)
        return drawing.finish(
            f"Adapting gained {means[-1]:.4f} nats a token over {stops.max():,.0f} validation tokens."
        )


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
