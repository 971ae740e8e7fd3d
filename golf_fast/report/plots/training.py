"""Training as plots: the loss of every step, and the rates that it was trained at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from golf_fast.report.pen import Pen, thousands

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from golf_fast.report.pen import Drawing

    Column = npt.NDArray[np.float64]

_POINTS = 600
_SMOOTHED_STEPS = 25
"""Steps after which a loss counts for 1/e in the smoothed curve."""


def training(pen: Pen, records: Sequence[Mapping[str, Any]], over: str) -> str:
    """Training loss, validation loss and learning-rate factor over "seconds" or "step"."""
    train = of_kind(records, "train", over, "loss")
    found = curve(records, over)
    if found is None:
        return ""
    x, losses = found
    val = of_kind(records, "val", over, "loss")
    rates = [record for record in train if known(record, "lr_factor")]
    with pen.figure(f"training over {over}") as drawing:
        axes = drawing.axes
        _every_step(drawing, pen, x, losses)
        if val:
            columns = [(record[over], record["loss"]) for record in val]
            axes.plot(*zip(*columns, strict=True), "o", color=pen["--ink"], markersize=3.5, label="validation loss")
        if rates:
            right = axes.twinx()
            at, factors = thinned(*_columns(rates, over, "lr_factor"))
            right.fill_between(
                at, factors, color=pen["--second"], alpha=0.16, linewidth=0, label="learning-rate factor"
            )
            right.set(ylim=(0, 1.6), yticks=[0, 0.5, 1])
            right.grid(False)
            axes.set_zorder(right.get_zorder() + 1)
            axes.patch.set_visible(False)
        drawing.legend(2)
        axes.set_xlabel("seconds of training" if over == "seconds" else "step")
        unit = "seconds" if over == "seconds" else "steps"
        return drawing.finish(
            f"Training loss over {x[-1]:,.0f} {unit}: from {losses[0]:.3f} to {losses[-1]:.3f} nats a token."
        )


def _every_step(drawing: Drawing, pen: Pen, x: Column, losses: Column) -> None:
    """The curve with all its spikes, and smoothed where it is dense enough to hide its course."""
    axes, label = drawing.axes, "training loss, nats a token"
    if not dense(losses):
        axes.plot(x, losses, color=pen["--first"], label=label)
        return
    low, high = extremes(losses)
    at, means = thinned(x, losses)
    if len(losses) > _POINTS:
        axes.fill_between(at, low, high, color=pen["--first"], alpha=0.25, linewidth=0, label="least to greatest")
    axes.plot(at, means, color=pen["--first"], linewidth=0.8, alpha=0.6, label=label)
    axes.plot(*thinned(x, smoothed(losses)), color=pen["--first"], linewidth=1.8, label="smoothed")


def rates(pen: Pen, factors: Sequence[float], momentum: Sequence[float], learning_rates: Mapping[str, float]) -> str:
    """Learning rates and momentum of every step.

    Args:
        factors: of the learning rates at each step.
        momentum: of Muon at each step.
        learning_rates: what is trained -> its learning rate at factor 1; without any, the factors are drawn.
    """
    import numpy as np

    if not factors or len(factors) != len(momentum):
        return ""
    steps = np.arange(1, len(factors) + 1, dtype=np.float64)
    alike: dict[float, list[str]] = {}
    for name, rate in learning_rates.items():
        alike.setdefault(rate, []).append(name)
    lines = {", ".join(names): rate for rate, names in alike.items()} or {"learning-rate factor": 1.0}
    with pen.figure("rates", height=3.1, rows=2) as drawing:
        above, below = drawing.rows
        for index, (name, rate) in enumerate(lines.items()):
            above.plot(*thinned(steps, rate * np.array(factors)), color=pen.series(index), label=name)
        below.plot(*thinned(steps, np.array(momentum)), color=pen["--muted"])
        above.set(ylabel="learning rate", ylim=(0, None))
        below.set(xlabel="step", ylabel="momentum")
        thousands(below.xaxis)
        drawing.legend(2)
        said = "; ".join(f"{name} at most {rate * max(factors):g}" for name, rate in lines.items())
        said += f"; momentum from {momentum[0]:g} to {momentum[-1]:g}"
        return drawing.finish(f"Learning rates of {len(factors):,} steps: {said}.")


def curve(records: Sequence[Mapping[str, Any]], over: str) -> tuple[Column, Column] | None:
    """Where each recorded training loss stands on the x axis, and the loss, both `[steps]`; None if there is none.

    Every step where the run recorded every step ("step" records), else those of its lines ("train" records). Of a step
    that was done again the last record counts. Seconds that a step lacks are found between those that have them.
    """
    import numpy as np

    lines = {record["step"]: record for record in of_kind(records, "train", "step", "loss")}
    steps = {record["step"]: record for record in of_kind(records, "step", "step", "loss")}
    chosen = sorted((steps or lines).items())
    if over == "step":
        columns = [(step, record["loss"]) for step, record in chosen]
    else:
        timed = [(step, record["seconds"]) for step, record in sorted(lines.items()) if known(record, "seconds")]
        if not timed:
            return None
        known_steps, known_seconds = np.array(timed, np.float64).T
        columns = [
            (
                np.interp(step, known_steps, known_seconds) if not known(record, "seconds") else record["seconds"],
                record["loss"],
            )
            for step, record in chosen
        ]
    if not columns:
        return None
    x, y = np.array(columns, dtype=np.float64).T
    return x, y


def dense(losses: Column) -> bool:
    """Whether a curve has enough points for smoothing to be useful."""
    return len(losses) > 2 * _SMOOTHED_STEPS


def smoothed(losses: Column) -> Column:
    """The exponential mean up to each step, without the bias of its start."""
    import numpy as np

    keep = float(np.exp(-1 / _SMOOTHED_STEPS))
    total, weight, means = 0.0, 0.0, np.empty_like(losses)
    for step, loss in enumerate(losses.tolist()):
        total, weight = keep * total + loss, keep * weight + 1
        means[step] = total / weight
    return means


def thinned(x: Column, y: Column) -> tuple[Column, Column]:
    """At most 600 points of a curve: means over equal numbers of its points."""
    import numpy as np

    edges = _edges(len(x))
    sizes = np.diff(edges)
    return np.add.reduceat(x, edges[:-1]) / sizes, np.add.reduceat(y, edges[:-1]) / sizes


def extremes(y: Column) -> tuple[Column, Column]:
    """The least and the greatest value behind each point that `thinned` leaves."""
    import numpy as np

    starts = _edges(len(y))[:-1]
    return np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)


def _edges(count: int) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.unique(np.linspace(0, count, min(_POINTS, count) + 1).astype(np.int64))


def of_kind(records: Sequence[Mapping[str, Any]], kind: str, *names: str) -> list[Mapping[str, Any]]:
    """The records of a kind that have a number under each of these names."""
    return [record for record in records if record.get("kind") == kind and known(record, *names)]


def known(record: Mapping[str, Any], *names: str) -> bool:
    """Whether a record has a number under each name."""
    return all(isinstance(record.get(name), int | float) for name in names)


def _columns(records: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[Column, Column]:
    import numpy as np

    first, second = np.array([(record[x], record[y]) for record in records], dtype=np.float64).T
    return first, second
