"""One page about a run, whole in itself, from what the run left behind.

It reads the settings, the metrics (`golf_fast.report.run_log` describes the records), the result, the loss of each
token and what else is there. What is missing is left out, so the page of a run that was cut short can be made too.
Equal files give equal pages.
"""

from __future__ import annotations

from pathlib import Path

from golf_fast.errors import InputError
from golf_fast.files import replacing
from golf_fast.report import html
from golf_fast.report.page import compression, configuration, documents, figures, outcome
from golf_fast.report.pen import FAILURES, Pen
from golf_fast.runs import FinishedRun


def write_html(run_dir: Path) -> Path:
    """Write the page into `run_dir` and return its path.

    Raises:
        InputError: `run_dir` is not the directory of a run, cannot be written, or its settings or result are not JSON.
    """
    run = _opened(run_dir)
    page = _page(run)
    with replacing(run.paths.report, "w") as file:
        file.write(page)
    return run.paths.report


def write_pictures(run_dir: Path) -> list[Path]:
    """Write the plots of the page as PNG files into a folder of `run_dir`, and return their paths.

    Raises:
        InputError: as `write_html`; or a plot cannot be drawn.
    """
    run, written = _opened(run_dir), []
    for figure in figures.of_run(run):
        path = run.paths.plots / f"{figure.name}.png"
        try:
            figure.draw(Pen(path))
        except FAILURES as error:
            raise InputError(f"{path}: cannot be drawn ({type(error).__name__}: {error})") from error
        if path.exists():
            written.append(path)
    return written


def _opened(run_dir: Path) -> FinishedRun:
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: is no folder; name the directory of a run")
    run = FinishedRun(run_dir)
    if not any(path.exists() for path in (run.paths.config, run.paths.metrics, run.paths.result)):
        raise InputError(f"{run_dir}: has no {run.paths.config.name}; name the directory of a run")
    return run


def _page(run: FinishedRun) -> str:
    config, result, records = run.as_written(run.paths.config), run.as_written(run.paths.result), run.records()
    name = str(result.get("run_id") or run.paths.folder.resolve().name)
    return html.document(
        name,
        [
            outcome.header(name, result, config),
            outcome.tiles(result),
            html.section("By the rules", outcome.rules(result) + outcome.audit(run)),
            html.plots([(figure.title, figure.svg()) for figure in figures.of_run(run)]),
            html.section("Hardest and easiest documents", documents.shown(run)),
            html.section("Stages", outcome.stages(records, result)),
            html.section("Compression, step by step", compression.steps(records)),
            html.section("Quantized tensors", compression.tensors(records)),
            html.section("Result", outcome.fields(result)),
            html.section("Configuration", configuration.fields(config)),
        ],
    )
