"""The plots of the page of a run, each with the file name of its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from golf_fast.errors import printable
from golf_fast.report import plots
from golf_fast.report.html import as_object
from golf_fast.report.pen import FAILURES, Pen
from golf_fast.runs import FinishedRun


@dataclass(frozen=True)
class Plot:
    """A plot of the page.

    Attributes:
        name: of the file of its picture, without the suffix.
        title: above it on the page.
        draw: draws it with a pen; see `golf_fast.report.plots`.
    """

    name: str
    title: str
    draw: Callable[[Pen], str]

    def svg(self) -> str:
        """An element for the page, or a sentence on why there is none: the page is worth more than a picture."""
        try:
            return self.draw(Pen())
        except FAILURES as error:
            return f"<p>It could not be drawn ({escape(printable(f'{type(error).__name__}: {error}'))}).</p>"


def of_run(run: FinishedRun) -> list[Plot]:
    """All plots, in the order of the page; one without data draws nothing."""
    records, losses = run.records(), run.paths.token_losses
    config, result = run.as_written(run.paths.config), run.as_written(run.paths.result)
    made = [
        Plot("training_by_time", "Training, by time", partial(_training, records=records, over="seconds")),
        Plot("training_by_step", "Training, by step", partial(_training, records=records, over="step")),
        Plot("rates", "Learning rates and momentum", partial(_rates, records=records, config=config, run=run)),
        Plot("gain", "What adapting gained along the stream", lambda pen: plots.gain(pen, records)),
        Plot("bytes", "Bytes of the submission", lambda pen: plots.parts(pen, _parts(result))),
        Plot("bits_by_layer", "Bits a weight, by layer", lambda pen: plots.by_layer(pen, records, "bits")),
        Plot("error_by_layer", "Error of quantization, by layer", lambda pen: plots.by_layer(pen, records, "error")),
    ]
    if losses.exists():
        along = Plot("loss_along_tokens", "Loss along the validation tokens", lambda pen: plots.loss_along(pen, losses))
        made.insert(3, along)
    return made


def _training(pen: Pen, records: list[dict[str, Any]], over: str) -> str:
    return plots.training(pen, records, over)


def _rates(pen: Pen, records: list[dict[str, Any]], config: Mapping[str, Any], run: FinishedRun) -> str:
    held = run.as_written(run.paths.schedule)
    factors, momentum = _numbers(held.get("lr_factor")), _numbers(held.get("momentum"))
    return plots.rates(pen, factors, momentum, _learning_rates(as_object(config.get("config"))))


def _learning_rates(config: Mapping[str, Any]) -> dict[str, float]:
    """What is trained -> its greatest learning rate, as far as the settings tell."""
    train, tied = as_object(config.get("train")), as_object(config.get("model")).get("tied_embeddings", True)
    names = {"matrix_lr": "matrices (Muon)", "tied_embed_lr" if tied else "embed_lr": "embeddings"}
    names |= {"scalar_lr": "scalars"} | ({} if tied else {"head_lr": "output matrix"})
    return {said: float(train[key]) for key, said in names.items() if isinstance(train.get(key), int | float)}


def _parts(result: Mapping[str, Any]) -> dict[str, int]:
    parts = {name: size for name, size in as_object(result.get("artifact_parts")).items() if isinstance(size, int)}
    if parts and isinstance(result.get("code_bytes"), int):
        parts["code"] = result["code_bytes"]
    return parts


def _numbers(value: Any) -> list[float]:
    return [item for item in value if isinstance(item, int | float)] if isinstance(value, list) else []
