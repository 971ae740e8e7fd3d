"""A training step beside another: the same tokens and losses on both sides, in turns."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import against, results
from benchmarks.report import command
from golf_fast.errors import InputError

OPTIONS = argparse.Namespace(other="abc", recipe="tiny", threads=1, steps=3, warmup=1)


def steps(milliseconds: list[float], losses: list[float]) -> list[dict[str, float]]:
    pairs = zip(milliseconds, losses, strict=True)
    return [{"wall": taken / 1e3, "cpu": taken / 500, "loss": loss} for taken, loss in pairs]


def test_ratios_are_of_pairs_and_without_the_warm_up() -> None:
    ours, theirs = steps([99, 1, 2, 30], [7, 6, 5, 4]), steps([9, 2, 4, 40], [7, 6, 5, 4.5])
    row = against.compared(OPTIONS, ours, theirs)
    assert (row["wall_ms"], row["wall_ms_other"]) == (2, 4)
    assert row["wall_ratio"] == row["cpu_ratio"] == 0.5
    assert row["cpu_ms"] == 4
    assert row["loss_difference"] == 0.125
    assert math.isinf(against.compared(OPTIONS, steps([1] * 4, [math.nan] * 4), theirs)["loss_difference"])


def test_a_commit_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(results.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"^no-such-commit: "):
        against.main(["no-such-commit"])
    with pytest.raises(InputError, match="--steps is 0: it must be at least 1"):
        against.main(["reference", "--steps", "0"])


def test_a_step_beside_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes that load all and train the smallest recipe: seconds, of which a second is training."""
    monkeypatch.setenv(results.VARIABLE, str(tmp_path))
    against.main(["reference", "--steps", "2", "--warmup", "0", "--json"])
    row = json.loads(capsys.readouterr().out)
    assert row["loss_difference"] < 5e-3
    assert row["cpu_ms"] > 0
    assert [json.loads(line) for line in (tmp_path / "against.jsonl").read_text().splitlines()] == [row]
    command.main(["--results", str(tmp_path)])
    assert "| tiny | 1 | reference |" in capsys.readouterr().out


def test_losses_that_differ_are_no_equal_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(results.VARIABLE, str(tmp_path))

    def side(name: str, *_: object) -> SimpleNamespace:
        taken = steps([1.0], [4.0 if name == "ours" else 4.25])
        return SimpleNamespace(steps=taken, answer=dict, step=lambda: None, close=lambda: None)

    monkeypatch.setattr(against, "Side", side)
    against.main(["reference", "--steps", "1", "--warmup", "0", "--tolerance", "0.3"])
    with pytest.raises(InputError, match=r"the losses differ by up to 0\.25000 .* not those of equal work"):
        against.main(["reference", "--steps", "1", "--warmup", "0"])
