"""The program on stand-ins for runs: a table grows, what is there is kept, and a failure is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from helpers.results import result

from golf_fast import command_line
from golf_fast.ablate import runs
from golf_fast.ablate.__main__ import main
from golf_fast.ablate.variants import variants
from golf_fast.console import exit_with
from golf_fast.files import locked


def program(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ablate", *arguments])
    with pytest.raises(SystemExit) as stop:
        exit_with(main, prints=True)
    return int(stop.value.code or 0)


class StandIn:
    """In place of a process that trains: it leaves what a run leaves, or fails."""

    started: ClassVar[list[list[str]]] = []
    ended: ClassVar[list[str]] = []

    def __init__(self, command: list[str], **more: Any) -> None:
        assert command[1:3] == ["-m", "golf_fast.train"]
        self.started.append(command[3:])
        config = command_line.parse(command[3:], {}, prog="", default_recipe=lambda: ("", ""))
        self.name, self.returncode = config.config.run_id, 0
        if config.config.train.muon_iterations == 77:
            more["stdout"].write(b"error: it is not to be\n")
            self.returncode = 2
            return
        folder = config.config.runs_dir / config.config.run_id
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config.as_dict()))
        bpb = 1.5 + config.config.seed / 1000 + 0.01 * (config.config.model.bigram_buckets == 0)
        result(config.config.seed, bpb, bpb).write(folder / "result.json")

    def poll(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        self.ended.append(self.name)

    def wait(self, timeout: float) -> int:
        return self.returncode


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of the runs that stand-ins were started for."""
    StandIn.started.clear()
    StandIn.ended.clear()
    constants = {name: getattr(subprocess, name) for name in ("DEVNULL", "STDOUT", "TimeoutExpired")}
    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(Popen=StandIn, **constants))
    return StandIn.started


def test_an_ablation_grows_and_makes_nothing_twice(
    tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["tiny", "--steps", "40", "--out", str(out), "--drop", "bigram"]
    flags = ["--", "--model.dim=204"]
    assert program(monkeypatch, *arguments, "--seeds", "1", *flags) == 0
    assert "whole, seed 42: started" in capsys.readouterr().out
    whole, bigram = started
    budget = {"--model.dim=204", "--train.max-steps=40", "--train.max-seconds=0", "--seed=42"}
    assert budget < set(whole)
    assert {"--model.bigram-buckets=0", *budget} < set(bigram)
    more = [*arguments, "--change", "bad: --train.muon-iterations=77", "--seeds", "2", "--jobs", "2", *flags]
    assert program(monkeypatch, *more) == 1
    said = capsys.readouterr().out
    assert len(started) == 2 + 4
    assert "bad, seed 42: FAILED, exit code 2: error: it is not to be; 3 to go, until about " in said
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
    assert program(monkeypatch, *arguments, "--steps", "41", *flags) == 2
    assert "whole-42: is a run of 40 steps, and the others have 41; name another --out" in capsys.readouterr().err
    with locked(out):
        assert program(monkeypatch, *arguments, *flags) == 2
    assert "another ablation makes runs there" in capsys.readouterr().err


def test_by_the_clock_the_others_follow_the_first_but_where_the_schedule_is_what_changes(
    tmp_path: Path, started: list[list[str]]
) -> None:
    changes = ["momentum: --train.muon-momentum 0.9"]
    chosen = variants("tiny", ["--train.min-lr=0.1"], ["bigram", "min_lr"], changes)
    plan = runs.Plan("tiny", ("--train.min-lr=0.1",), chosen, [1], 0, tmp_path)
    assert len(list(runs.run_all(plan, lambda text: None))) == 4
    whole, *others = started
    assert not [flag for flag in whole if flag.startswith(("--train.max-", "--train.replay"))]
    last = [[flag for flag in each if flag.startswith(("--train.max-", "--train.replay"))] for each in others]
    own = ["--train.max-steps=40", "--train.max-seconds=0"]
    assert last == [[f"--train.replay-schedule={tmp_path / 'whole-1'}"], own, own]


def test_what_runs_is_ended_where_the_ablation_is(
    tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = runs.Plan("tiny", (), variants("tiny", [], ["bigram", "ema"], []), [1], 40, tmp_path, jobs=2)
    outcomes = runs.run_all(plan, lambda text: None)
    assert next(outcomes).variant == "whole"
    monkeypatch.setattr(StandIn, "poll", lambda self: None)

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)
    assert StandIn.ended == ["bigram-1", "ema-1"]


def test_a_run_that_was_cut_short_is_moved_aside_and_made_again(tmp_path: Path) -> None:
    (whole, _) = variants("tiny", [], ["bigram"], [])
    (tmp_path / "whole-42").mkdir()
    (tmp_path / "whole-42" / "log.txt").write_text("as far as it came")
    assert runs._there(runs._Task(whole, 42, tmp_path / "whole-42", ""), 0) is None
    assert (tmp_path / "whole-42.unfinished-1" / "log.txt").exists()
    assert not (tmp_path / "whole-42").exists()


def test_the_reason_of_a_failure_is_the_error_and_not_what_torchrun_says_behind_it() -> None:
    assert runs._reason("step:1\nerror: it is not to be\nTraceback\n  more\n=====\n") == "error: it is not to be"
    assert runs._reason("step:1\ninterrupted\n") == "interrupted"
    assert runs._reason("") == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tiny"], "nothing to leave out of tiny: name some with --drop, of adapting, "),
        (["tiny", "--drop", "ema", "--seeds", "0"], "--seeds is 0: it must be from 1 to 1000"),
        (["tiny", "--drop", "ema", "--jobs", "0"], "--jobs is 0: it must be from 1 to 1024"),
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
