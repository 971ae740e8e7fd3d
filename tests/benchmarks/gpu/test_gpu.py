"""A plan within a budget: what fails or takes too long ends itself only, and its figures are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
    monkeypatch.setattr(command, "GRACE", 0.2)


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
    require_ended(pid)


def require_ended(pid: int) -> None:
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
    assert said.count("-m benchmarks step --recipe seed") == 3
    assert "step --recipe top_1855" in said
    for stages in plans.PLANS.values():
        for one in stages:
            for word in one.command:
                assert not word.startswith("tests/") or (command.ROOT / word).is_file(), word
            if "--op" in one.command:
                assert one.command[one.command.index("--op") + 1] in registry.OPS


TOLD = """
import time
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("what had failed so far")
"""


def test_what_is_cut_off_is_asked_first_as_by_ctrl_c(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE", 20.0)
    began = time.monotonic()
    assert [outcome.end for outcome in command.run([stage("told", TOLD, limit=2)], 60, tmp_path)] == ["cut off"]
    assert time.monotonic() - began < 20
    assert "what had failed so far" in (tmp_path / command.LOG).read_text()


def test_a_stage_without_its_path_is_left_out_in_a_line(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('it ran')")
    needy = Stage("needy", 9, ("{upstream}",), ())
    outcomes = command.run([needy, stage("next", "print('after')")], 60, tmp_path / "without")
    assert [(outcome.end, outcome.good) for outcome in outcomes] == [("left out", True), ("done", True)]
    said = capsys.readouterr().out
    assert "== needy: left out, for it needs --upstream\n" in said
    assert "after" in said
    (outcome,) = command.run([needy], 60, tmp_path / "with", paths={"upstream": script})
    assert outcome.end == "done"
    assert "it ran" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--upstream .*nowhere: there is no such file or folder; it is a record"):
        command.main(["--budget", "300", "--plan", "third", "--list", "--upstream", str(tmp_path / "nowhere")])


def test_what_a_stage_leaves_is_kept_beside_the_measurements(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    program = "open('result.json', 'w').write('{}'); import time; time.sleep(600)"
    leaving = Stage("leaving", 2, ("-c", program), (), leaves=("result.json", "artifact.golf"))
    command.run([leaving], 60, tmp_path / "measured")
    assert (tmp_path / "measured/result.json").read_text() == "{}"
    assert not (tmp_path / "measured/artifact.golf").exists()


def test_the_program_of_a_plan_ends_its_stage_when_it_is_told_to(quick: None, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from benchmarks.gpu import command, plans\n"
        "from golf_fast.console import exit_with\n"
        f"stage = plans.Stage('parent', 60, ('-c', {CHILD!r}), ())\n"
        f"exit_with(lambda: command.run([stage], 60, Path({str(tmp_path)!r})))"
    )
    driver = subprocess.Popen([sys.executable, "-c", program], cwd=command.ROOT, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = next(int(line.split()[1]) for line in driver.stdout if line.split()[1:] and line.split()[1].isdecimal())
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) == 128 + signal.SIGTERM
    require_ended(pid)


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
