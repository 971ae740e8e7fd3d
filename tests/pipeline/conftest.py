"""A run that was cut short, and the program that goes on with it."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers.bare_run import leave_out_the_rest
from helpers.resumed_run import Call, Whole, result
from helpers.small_run import RESUMED, text
from helpers.whole_run import train

from golf_fast.train import Trainer


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """A function that calls `python -m golf_fast.train` with arguments, and gives its exit code."""
    leave_out_the_rest(monkeypatch.setattr)
    return functools.partial(train, monkeypatch)


def begin(folder: Path, name: str, patch: pytest.MonkeyPatch) -> int | str | None:
    """Make the longer of the small runs in a folder; its exit code."""
    leave_out_the_rest(patch.setattr)
    data = [f"--data.text={text(folder)}", f"--data.built={folder / 'built'}"]
    return train(patch, "tiny", *RESUMED, *data, f"--runs-dir={folder}", f"--run-id={name}")


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and a run that SIGTERM cut short at step 5."""
    folder = tmp_path_factory.mktemp("runs")
    step, steps = Trainer.step, itertools.count()

    def stopping(trainer: Trainer, rates: Any) -> Any:
        if next(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, rates)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        assert begin(folder, "short", patch) == 143
    return folder


@pytest.fixture(scope="session")
def base(cut: Path) -> Whole:
    """A folder with the data, a run that SIGTERM cut short at step 5, and the result of a whole one."""
    with pytest.MonkeyPatch.context() as patch:
        assert begin(cut, "whole", patch) == 0
    return cut, cut / "short", result(cut / "whole")


@pytest.fixture
def short(cut: Path, tmp_path: Path) -> Path:
    """A copy of the run that was cut short."""
    return shutil.copytree(cut / "short", tmp_path / "short")
