"""Going on with what is no run, has other settings or data, or is being made: refused, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.resumed_run import Call

from golf_fast.files import locked


def test_what_is_no_run_is_refused(tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--resume", tmp_path / "none") == 2
    assert "none: is no directory of a run; name the directory of a run that was cut short" in capsys.readouterr().err
    assert call("--resume") == 2
    assert capsys.readouterr().err.startswith("error: --resume: name the directory of a run")
    assert call("--resume=") == 2


def test_a_run_that_ended_before_it_began_is_refused(
    short: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(short / "resume")
    assert call("--resume", short) == 2
    assert "short: keeps nothing to go on from" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["tiny", "--train.max-steps=3", "--seed=1", "--run-id=x"])
def test_other_settings_are_refused(short: Path, call: Call, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    before = (short / "log.txt").read_bytes()
    for arguments in (["--resume", short, flag], [flag, f"--resume={short}"]):
        assert call(*arguments) == 2
        assert f"error: {flag}: the run goes on with its own configuration" in capsys.readouterr().err
    assert (short / "log.txt").read_bytes() == before


@pytest.mark.parametrize("harm", ["missing", "damaged", "half"])
def test_a_named_checkpoint_that_is_not_whole_is_refused(
    short: Path, call: Call, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    named = short / "resume" / "step-00000005"
    if harm == "missing":
        shutil.rmtree(named)
    elif harm == "damaged":
        (named / "rank-0-of-1.safetensors").write_bytes(b"x" * 1000)
    else:
        (named / "rank-0-of-1.json").unlink()
    assert call("--resume", named) == 2
    assert str(named) in capsys.readouterr().err


def test_two_processes_do_not_make_one_run(short: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(short / "config.json"):
        assert call("--resume", short) == 2
    assert "short: another process is making this run" in capsys.readouterr().err


def test_other_data_are_refused(short: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((short / "config.json").read_text())
    other = short.parent / "other.jsonl"
    lines = Path(config["config"]["data"]["text"]).read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:-1]))
    config["config"]["data"]["text"] = str(other)
    (short / "config.json").write_text(json.dumps(config))
    assert call("--resume", short) == 2
    assert "put the data back, or make a new run" in capsys.readouterr().err
    assert (short / "resume" / "run.json").exists()
