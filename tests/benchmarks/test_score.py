"""Ways of scoring are timed on the same tokens, after their losses were compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import score
from benchmarks.report import command
from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.score.rows import TokenRows

TINY = ModelConfig(vocab_size=40, dim=16, layers=2, heads=2, kv_heads=1, bigram_buckets=31, bigram_dim=8)
FLAGS = ["--context", "32", "--stride", "8", "--windows", "4", "--batch", "3", "--model-window", "6", "--rounds", "2"]
FLAGS += ["--device", "cpu", "--json"]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(score, "SMALL", TINY)
    monkeypatch.setenv("GOLF_FAST_RESULTS", str(tmp_path))


def test_every_way_has_a_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    score.main(FLAGS)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["sees"], row["way"]) for row in printed] == [
        ("all before", "published loop"),
        ("all before", "windows"),
        ("6 positions", "published loop"),
        ("6 positions", "windows"),
        ("6 positions", "streaming"),
    ]
    for row in printed:
        assert row["us_per_token"]["median"] > 0
        assert (row["context"], row["stride"], row["rounds"]) == (32, 8, 2)
        assert row["speedup"] == 1 or row["way"] != "published loop"
    assert [json.loads(line) for line in (tmp_path / "score.jsonl").read_text().splitlines()] == printed
    command.main(["--results", str(tmp_path)])
    reported = capsys.readouterr().out
    assert all(f"| {row['sees']} | 32 by 8 | {row['way']} |" in reported for row in printed)


def test_no_times_for_other_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = TokenRows.gather

    def shifted(self: TokenRows, starts: torch.Tensor, length: int) -> object:
        return gather(self, starts + 1, length)

    monkeypatch.setattr(TokenRows, "gather", shifted)
    with pytest.raises(InputError, match="no times, for windows differs by"):
        score.main(FLAGS)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--stride", "40"], "--stride is 40: it must be at most --context = 32"),
        (["--model-window", "0"], "--model-window is 0: it must be at least 1"),
        (["--upstream", "none.py"], "--upstream none.py: there is no such file"),
    ],
)
def test_bad_flags_are_named(flags: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        score.main([*FLAGS, *flags])


def test_a_record_scripts_model_runs_in_the_published_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train_gpt.py"
    script.write_text(
        "import torch\n"
        "class GPT(torch.nn.Module):\n"
        "    def __init__(self, vocab_size):\n"
        "        super().__init__()\n"
        "        self.tok_emb = torch.nn.Embedding(vocab_size, 16)\n"
        "    def forward_logits(self, x):\n"
        "        return self.tok_emb(x) @ self.tok_emb.weight.T\n"
    )
    score.main([*FLAGS, "--upstream", str(script)])
    assert [json.loads(line)["way"] for line in capsys.readouterr().out.splitlines()].count("record script") == 2
    script.write_text(script.read_text().replace("forward_logits", "other"))
    with pytest.raises(InputError, match="its GPT has no forward_logits"):
        score.main([*FLAGS, "--upstream", str(script)])
