"""Two small runs that differ in the seed, as `python -m golf_fast.train` leaves them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from test_golden import GOLDEN, RECIPES, SMALL, one_thread, write_text

from golf_fast.audit.run.replay import Sample
from golf_fast.console import exit_with
from golf_fast.pipeline import execute
from golf_fast.submit.record import Candidate, examine
from golf_fast.train.__main__ import main

REFERENCES = "reference,qkv_attention=separate,rms_norm=plain"
"""Backends that a built file has too, which comes without the extension; what rounds and codes gives the same bits with
it, in a tenth of the time."""


def train(folder: Path, seed: int) -> Path:
    data = [f"--data.text={folder / 'text.jsonl'}", f"--data.built={folder / 'built'}", f"--runs-dir={folder}"]
    replayed = f"--train.replay-schedule={GOLDEN / 'schedule'}"
    before = sys.argv
    sys.argv = ["train", "tiny", *SMALL, *RECIPES["tiny"], *data, replayed, f"--seed={seed}", f"--run-id=seed{seed}"]
    sys.argv.append("--device=cpu")
    try:
        with one_thread(), pytest.raises(SystemExit) as stop:
            exit_with(main)
    finally:
        sys.argv = before
    assert stop.value.code == 0
    return folder / f"seed{seed}"


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    write_text(folder / "text.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        from golf_fast.ops import backends

        patch.setenv(backends.VARIABLE, REFERENCES)
        backends.forget()
        for name in ("write_html", "write_pictures"):  # the pages of a run are no part of a submission
            patch.setattr(execute, name, lambda folder: None)
        made = [train(folder, seed) for seed in (42, 7)]
    backends.forget()
    return made


@pytest.fixture(scope="session")
def candidates(runs: list[Path]) -> list[Candidate]:
    return [examine(run, Sample(targets=64), torch.device("cpu")) for run in runs]
