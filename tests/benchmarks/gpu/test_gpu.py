"""A plan within a budget: what fails or takes too long ends itself only, and its figures are kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.gpu import command, plans
from benchmarks.gpu.plans import Stage
from benchmarks.ops import registry
from golf_fast.errors import InputError

ROWS = """
import os, pathlib, time
folder = pathlib.Path(os.environ["GOLF_FAST_RESULTS"])
for i in range(2000):
    (folder / "rows").open("a").write(f"{i} {os.environ.get('OWN')}\\n")
    print("row", i)
    time.sleep(0.05)
"""
CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid)
time.sleep(600)
"""


def stage(name: str, program: str, limit: int = 60, own: tuple[tuple[str, str], ...] = ()) -> Stage:
    return Stage(name, limit, ("-c", program), ("-c", "print('rehearsed')"), own)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LEAST", 0.5)
    monkeypatch.setattr(command, "GRACE", 0.3)


def test_a_stage_that_fails_or_is_cut_off_ends_no_other(quick: None, tmp_path: Path) -> None:
    stages = [
        stage("fails", "print('before'); raise SystemExit(3)"),
        stage("endless", ROWS, limit=1, own=(("OWN", "yes"),)),
        stage("good", "print('after')"),
    ]
    outcomes = command.run(stages, 60, tmp_path)
    assert [outcome.end for outcome in outcomes] == ["failed (exit code 3)", "cut off", "done"]
    assert (tmp_path / "rows").read_text().startswith("0 yes\n")
    log = (tmp_path / command.LOG).read_text()
    for line in ("before\n", "== fails: failed (exit code 3), ", "row 0\n", "== endless: cut off, ", "after\n"):
        assert line in log


def test_no_stage_goes_past_the_budget(quick: None, tmp_path: Path) -> None:
    began = time.monotonic()
    outcomes = command.run([stage("endless", ROWS), stage("next", ROWS), stage("last", ROWS)], 1.5, tmp_path)
    assert time.monotonic() - began < 30
    assert [outcome.end for outcome in outcomes] == ["cut off", "left out", "left out"]


def test_what_a_stage_started_ends_with_it(quick: None, tmp_path: Path) -> None:
    command.run([stage("parent", CHILD, limit=1)], 60, tmp_path)
    lines = [line.split() for line in (tmp_path / command.LOG).read_text().splitlines()]
    (pid,) = [int(words[1]) for words in lines if len(words) == 2 and words[0] == "child"]
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    raise AssertionError("the child is still there")


def test_every_stage_is_a_command_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for plan in plans.PLANS:
        command.main(["--budget", "400", "--plan", plan, "--list"])
    said = capsys.readouterr().out
    assert said.count("-m benchmarks step --recipe seed") == 2
    for stages in plans.PLANS.values():
        for one in stages:
            for word in one.command:
                assert not word.startswith("tests/") or (command.ROOT / word).is_file(), word
            if "--op" in one.command:
                assert one.command[one.command.index("--op") + 1] in registry.OPS


def test_wrong_flags_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(results.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="--budget is 3: it must be at least 10 seconds"):
        command.main(["--budget", "3"])
    with pytest.raises(InputError, match="--rehearse runs what does without one"):
        command.main(["--budget", "300"])


def test_a_plan_says_what_was_not_done(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(results.VARIABLE, str(tmp_path))
    bad = Stage("bad", 9, (), ("-c", "raise SystemExit(2)"))
    monkeypatch.setitem(plans.PLANS, "first", (stage("good", ""), bad))
    with pytest.raises(SystemExit, match=r"not done: bad \(failed \(exit code 2\)\)"):
        command.main(["--budget", "60", "--rehearse"])
    assert "rehearsed" in capsys.readouterr().out
