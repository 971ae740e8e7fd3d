"""The program on stand-ins for runs: a table grows, what is there is kept, and a failure is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.results import result

from golf_fast import command_line
from golf_fast.ablate import runs
from golf_fast.ablate.__main__ import main
from golf_fast.ablate.variants import variants
from golf_fast.console import exit_with


def program(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ablate", *arguments])
    with pytest.raises(SystemExit) as stop:
        exit_with(main, prints=True)
    return int(stop.value.code or 0)


def test_an_ablation_grows_and_makes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for the training: it leaves what a run leaves, or fails."""
    started: list[list[str]] = []
    out = tmp_path / "out"

    def train(command: list[str], **more: Any) -> subprocess.CompletedProcess[bytes]:
        assert command[1:3] == ["-m", "golf_fast.train"]
        started.append(command[3:])
        config = command_line.parse(command[3:], {}, prog="", default_recipe=lambda: ("", ""))
        if config.config.train.muon_iterations == 77:
            more["stdout"].write(b"error: it is not to be\n")
            return subprocess.CompletedProcess(command, 2)
        folder = config.config.runs_dir / config.config.run_id
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config.as_dict()))
        bpb = 1.5 + config.config.seed / 1000 + 0.01 * (config.config.model.bigram_buckets == 0)
        result(config.config.seed, bpb, bpb).write(folder / "result.json")
        return subprocess.CompletedProcess(command, 0)

    stand_in = SimpleNamespace(run=train, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(runs, "subprocess", stand_in)
    arguments = ["tiny", "--steps", "3", "--out", str(out), "--drop", "bigram"]
    flags = ["--", "--model.dim=204"]
    assert program(monkeypatch, *arguments, "--seeds", "1", *flags) == 0
    assert "whole, seed 42: started" in capsys.readouterr().out
    whole, bigram = started
    assert {"--model.dim=204", "--train.max-steps=3", "--train.max-seconds=0", "--seed=42"} < set(whole)
    assert {"--model.dim=204", "--model.bigram-buckets=0", f"--train.replay-schedule={out}/whole-42"} < set(bigram)
    more = [*arguments, "--change", "bad: --train.muon-iterations=77", "--seeds", "2", *flags]
    assert program(monkeypatch, *more) == 1
    said = capsys.readouterr().out
    assert len(started) == 2 + 4
    assert all(f"--train.replay-schedule={out}/whole-42" in command for command in started[1:])
    assert "bad, seed 42: FAILED, exit code 2: error: it is not to be" in said
    assert "2 of 6 runs failed" in said
    held = json.loads((out / "ablation.json").read_text())
    assert [(each["variant"], each["seeds"]) for each in held["findings"]] == [
        ("whole", [42, 43]),
        ("bigram", [42, 43]),
    ]
    assert held["findings"][1]["worse_by"] == pytest.approx(0.01)
    assert {path.name for path in out.glob("ablation.*")} == {f"ablation.{end}" for end in ("json", "md", "png", "svg")}
    assert program(monkeypatch, *more[:-1], "--model.dim=216") == 2
    assert "whole-42: is a run of other settings" in capsys.readouterr().err


def test_a_run_that_was_cut_short_is_moved_aside_and_made_again(tmp_path: Path) -> None:
    (whole, _) = variants("tiny", [], ["bigram"], [])
    (tmp_path / "whole-42").mkdir()
    (tmp_path / "whole-42" / "log.txt").write_text("as far as it came")
    assert runs._there(tmp_path / "whole-42", whole, 42) is None
    assert (tmp_path / "whole-42.unfinished-1" / "log.txt").exists()
    assert not (tmp_path / "whole-42").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tiny"], "nothing to leave out of tiny: name some with --drop, of adapting, "),
        (["tiny", "--drop", "ema", "--seeds", "0"], "--seeds is 0: it must be from 1 to 1000"),
        (["tiny", "--drop", "ema", "--steps", "-1"], "--steps is -1"),
        (["tinny", "--drop", "ema"], "tinny: no such recipe"),
        (["tiny", "--drop", "ema", "--out", "/dev/null/x"], "/dev/null/x: cannot be made"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(monkeypatch, *arguments) == 2
    assert says in capsys.readouterr().err


def test_a_recipe_s_mechanisms_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(monkeypatch, "seed", "--list") == 0
    assert "bigram" in capsys.readouterr().out
