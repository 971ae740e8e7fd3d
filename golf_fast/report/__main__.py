"""The page of a run again, or several runs beside one another."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import tyro

from golf_fast.arguments import call
from golf_fast.console import exit_with, say
from golf_fast.files import replacing
from golf_fast.report import write_html, write_pictures
from golf_fast.report.compare import comparison, show
from golf_fast.runs import FinishedRun
from golf_fast.runs.documents import Documents


def page(run: Annotated[Path, tyro.conf.Positional]) -> None:
    """Write the page of a run again, with its pictures, from what the run left.

    Args:
        run: What `python -m golf_fast.train` left behind, whole or not; an audit.json in it is shown too.
    """
    say(f"{write_html(run)}: written")
    for path in write_pictures(run):
        say(f"{path}: written")


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional], json: bool = False, output: Path = Path("compare.html")
) -> None:
    """Show what differs between runs: settings, results, curves, and bits per byte with an interval over documents.

    The other runs are compared with the first. All must have been scored on the same validation text, whatever their
    tokenizers: with other tokens the bits per byte of the documents that both were scored on whole are compared.

    Args:
        runs: The directories of two runs or more.
        json: Print one JSON object instead of tables, and write no page.
        output: The page, replaced if it is there.
    """
    found = comparison.compare(runs, _documents)
    if json:
        print(json_text.dumps(found.as_json(), indent=1))
        return
    with replacing(output, "w") as file:
        file.write(show.page(found))
    say(show.lines(found))
    say(f"\n{output}: written")


def _documents(run: FinishedRun) -> Documents:
    """The documents of a run that recorded none, from the shards that it names."""
    import torch

    from golf_fast.pipeline.documents import find_documents
    from golf_fast.score.loading import load_run

    loaded = load_run(run, torch.device("cpu"))
    validation = loaded.dataset.validation(loaded.config.window)
    return find_documents(validation, run.token_losses(), loaded.tokenizer)


def main() -> None:
    """Run the subcommand that the command line names."""
    call({"page": page, "compare": compare}, "python -m golf_fast.report", __doc__)


if __name__ == "__main__":
    exit_with(main)
