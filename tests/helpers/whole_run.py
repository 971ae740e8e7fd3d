"""The program of a run, as a person calls it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import small_run

import golf_fast
from golf_fast.console import exit_with
from golf_fast.train.__main__ import main

SMALL = [*small_run.SMALL, "--train.max-steps=6", *small_run.ADAPTING]
FILES = {
    "artifact.golf",
    "checkpoint",
    "config.json",
    "documents.json",
    "ledger.jsonl",
    "log.txt",
    "metrics.jsonl",
    "plots",
    "report.html",
    "result.json",
    "schedule.json",
    "token_losses",
    "token_losses_before",
    "tokenizer.model",
    "train_gpt.py",
}


def pipeline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "golf_fast.train", "tiny", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(golf_fast.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def exit_code(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int | str | None:
    """The same in this process."""
    return train(monkeypatch, "tiny", *arguments)


def train(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """The same of any recipe, or of none."""
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    return stop.value.code
