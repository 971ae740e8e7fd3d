"""The recipe tiny_top at a small size, from text to a scored artifact, and once more along its schedule."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.bare_run import leave_out_the_rest
from helpers.small_run import SMALL, text

from golf_fast.compress import Quantized, read_artifact
from golf_fast.console import exit_with
from golf_fast.recipes import RECIPES
from golf_fast.runs import FinishedRun
from golf_fast.train.__main__ import main

OF_TOP = [
    *(flag for flag in SMALL if "bigram" not in flag and "layers" not in flag),
    "--model.rope-dims=4",
    "--train.max-steps=6",
    "--compress.report-tokens=0",
    "--compress.calibration-tokens=1024",
    "--compress.fp16-max-elements=256",
    "--score.documents.rank=2",
    "--score.documents.context=32",
    "--score.documents.chunk-tokens=16",
    "--score.documents.batch=8",
]


def test_it_runs_whole_and_a_replay_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_the_rest(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(run_id: str, *more: str) -> FinishedRun:
        given = ["train", "tiny_top", f"--run-id={run_id}", f"--data.text={text(tmp_path)}", *OF_TOP, *more]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as stop:
            exit_with(main)
        assert not stop.value.code
        return FinishedRun(tmp_path / "runs" / run_id)

    first = run("first")
    assert first.config.model.loops == RECIPES["tiny_top"]().model.loops == 1
    assert first.schedule().loop_from == 3, "35 % of six steps"
    held = read_artifact(first.paths.artifact).tensors
    gates = [held[name] for name in held if name.endswith("attn_gate_w")]
    assert len(gates) == 4
    assert all(isinstance(gate, Quantized) and gate.bits == 8 for gate in gates)
    again = run("again", "--train.replay-schedule=runs/first")
    assert again.schedule().loop_from == 3
    assert again.paths.artifact.read_bytes() == first.paths.artifact.read_bytes()
    assert again.result().val_loss == first.result().val_loss
