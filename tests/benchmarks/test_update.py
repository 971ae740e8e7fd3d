"""The two forms of the update are timed on equal gradients, after their weights were compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import launches, update
from benchmarks.report import command
from golf_fast.config import ModelConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES
from golf_fast.train import Averages, Optimizer

TINY = ModelConfig(vocab_size=40, dim=16, layers=2, heads=2, kv_heads=1, bigram_buckets=31, bigram_dim=8)
FLAGS = ["--ranks", "1", "--rounds", "2", "--device", "cpu", "--json"]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(update, "RECIPES", {"tiny": lambda: replace(RECIPES["tiny"](), model=TINY)})
    monkeypatch.setenv("GOLF_FAST_RESULTS", str(tmp_path))


def test_both_ways_have_a_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    update.main(FLAGS)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["ranks"], row["way"]) for row in printed] == [(1, "plain"), (1, "sharded")]
    for row in printed:
        assert row["milliseconds"]["median"] > 0
        assert row["speedup"] == 1 or row["way"] != "plain"
    assert [json.loads(line) for line in (tmp_path / "update.jsonl").read_text().splitlines()] == printed
    command.main(["--results", str(tmp_path)])
    reported = capsys.readouterr().out
    assert all(f"| tiny | 1 | {row['way']} |" in reported for row in printed)


def test_no_times_for_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Optimizer.step

    def twice(self: Optimizer, *arguments: object) -> None:
        step(self, *arguments)  # type: ignore[arg-type]
        step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Optimizer, "step", twice)
    with pytest.raises(InputError, match=r"no times: \w+ of the ways differs by"):
        update.main(FLAGS)


@pytest.mark.parametrize(("name", "of_update", "of_averages"), [("tiny", 23, 3), ("seed", 25, 5)])
def test_the_update_launches_few_kernels(name: str, of_update: int, of_averages: int) -> None:
    """Counted as on a GPU, on one rank; the tables of seed have another dtype than the rest."""
    recipe = replace(RECIPES[name](), model=TINY)
    way = update.Sharded(recipe, Ranks.single())
    assert way.launches() <= of_update
    averages = Averages(way.model, recipe.train)
    averages.update(recipe.train.ema_start_step, 1.0, way.optimizer.ok)
    counted = launches.operators(lambda: averages.update(recipe.train.ema_start_step + 1, 1.0, way.optimizer.ok))
    assert counted.total() <= of_averages


def test_what_computes_is_counted_and_products_apart() -> None:
    x = torch.randn(3, 4)

    def work() -> None:
        y = x.T.reshape(2, 6)[:, :3]
        torch.empty(3)
        torch._foreach_add_([x, y], 1.0)
        y @ y.T

    assert launches.operators(work) == {"clone": 1, "_foreach_add_": 1, "mm": 1}
    assert launches.launches(work) == 2
