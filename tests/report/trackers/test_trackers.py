"""Trackers are told what the files hold, by a thread of their own, and never end a run."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from golf_fast import command_line
from golf_fast.errors import InputError
from golf_fast.pipeline.execute import execute
from golf_fast.report import RunLog
from golf_fast.report.trackers import NAMES, kinds, require_installed, thread

TOLD = [
    (1, {"train/loss": 5.0}),
    (2, {"train/loss": 4.5}),
    (2, {"train/lr_factor": 0.5, "train/momentum": 0.9, "train/tokens_per_second": 100.0, "train/seconds": 1.0}),
    (2, {"val/loss": 4.0, "val/bpb": 1.5}),
    (2, {"stage/train/seconds": 3.0}),
    (2, {"compression/rounded/bytes": 100.0, "compression/rounded/bpb": 1.25}),
    (2, {"result/val_bpb": 1.5, "result/steps": 2.0}),
]


class Remembers:
    """A tracker that keeps what it is told."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.told: list[tuple[int, dict[str, float]]] = []
        self.closed = False
        made.append(self)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


made: list[Remembers] = []


@pytest.fixture(autouse=True)
def remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    made.clear()
    monkeypatch.setitem(thread.KINDS, "remembers", Remembers)


def speak(log: RunLog) -> None:
    log.metric(kind="step", step=1, loss=5.0)
    log.metric(kind="step", step=2, loss=4.5)
    log.metric(kind="train", step=2, seconds=1.0, loss=4.5, lr_factor=0.5, momentum=0.9, tokens_per_second=100.0)
    log.metric(kind="val", step=2, loss=4.0, bpb=1.5)
    log.metric(kind="stage", name="train", seconds=3.0, bytes=None, bpb=float("nan"))
    log.metric(kind="compression", name="rounded", bytes=100, bpb=1.25)
    log.metric(kind="tensor", name="a", bits=4.0)
    log.result({"val_bpb": 1.5, "steps": 2, "recipe": "tiny", "legal": True, "val_loss": None})


def test_a_tracker_is_told_every_number_and_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path) as log:
        log.track(["remembers"], tmp_path, {"train.matrix_lr": 0.02})
        speak(log)
    (tracker,) = made
    assert tracker.told == TOLD
    assert tracker.settings == {"train.matrix_lr": 0.02}
    assert tracker.closed
    assert capsys.readouterr().out == "trackers: remembers\n"


def test_nothing_is_told_or_started_by_default(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.track([], tmp_path, {})
        speak(log)
        assert log._trackers is None
    with RunLog(tmp_path / "other", main=False) as log:
        log.track(["remembers"], tmp_path, {})
        speak(log)
    assert made == []


def test_without_records_of_every_step_the_lines_give_the_loss(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.track(["remembers"], tmp_path, {})
        log.metric(kind="train", step=7, loss=4.5)
    assert made[0].told == [(7, {"train/loss": 4.5})]


@pytest.mark.parametrize("failing", ["__init__", "record", "close"])
def test_one_that_fails_is_said_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    class Fails(Remembers):
        pass

    def fail(*_: object) -> None:
        raise RuntimeError("no \x1b[1mnetwork\nmore")

    setattr(Fails, failing, fail)
    monkeypatch.setitem(thread.KINDS, "fails", Fails)
    with RunLog(tmp_path) as log:
        log.track(["fails", "remembers"], tmp_path, {})
        speak(log)
    said = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    what = {"__init__": "start", "record": "take a record", "close": "end"}[failing]
    why = "RuntimeError: no \\x1b[1mnetwork\\nmore"
    assert said == [f"fails: failed to {what} ({why}); the run goes on without it"]
    assert made[-1].told == TOLD
    assert made[-1].closed
    assert said[0] in (tmp_path / "log.txt").read_text()


def test_a_slow_one_holds_up_neither_the_run_nor_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()

    class Slow(Remembers):
        def record(self, step: int, values: Mapping[str, float]) -> None:
            ended.wait(60)

    monkeypatch.setitem(thread.KINDS, "slow", Slow)
    monkeypatch.setattr(thread, "_SECONDS_AT_THE_END", 0.1)
    monkeypatch.setattr(thread, "_HELD", 3)
    began = time.monotonic()
    with RunLog(tmp_path) as log:
        log.track(["slow"], tmp_path, {})
        for _ in range(10):
            speak(log)
    assert time.monotonic() - began < 30
    ended.set()
    said = capsys.readouterr().out
    assert "trackers: not done after 0.1 s; the run ends without them" in said
    assert "records were dropped, as one did not keep up" in said
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 70, "the files have all"


def test_one_that_is_not_installed_is_refused_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    parsed = command_line.parse(
        ["tiny", "--track", "tensorboard", "wandb", "--runs-dir", str(tmp_path / "runs")],
        {},
        prog="prog",
        default_recipe=lambda: ("tiny", ""),
    )
    assert parsed.config.track == ("tensorboard", "wandb")
    with pytest.raises(InputError, match=r'track: tensorboard is not installed: pip install "tensorboard"'):
        execute(parsed)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("given", "said"), [(["mlflow"], "mlflow"), (["wandb", "wandb"], "each name once")])
def test_other_names_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        command_line.parse(["tiny", "--track", *given], {}, prog="prog", default_recipe=lambda: ("tiny", ""))


def test_the_names_are_those_of_the_setting() -> None:
    assert set(NAMES) == {"tensorboard", "wandb", "trackio"}
    require_installed([])


def told_by(log_dir: Path, name: str) -> None:
    with RunLog(log_dir) as log:
        log.track([name], log_dir, {"train.matrix_lr": 0.02})
        speak(log)
    assert "failed" not in (log_dir / "log.txt").read_text()


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told_by(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    found = {(event.step, name): event.value for name in events.Tags()["scalars"] for event in events.Scalars(name)}
    assert found == {(step, name): value for step, values in TOLD for name, value in values.items()} | {
        (2, "train/momentum"): pytest.approx(0.9)
    }


def test_wandb_writes_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONFIG_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    told_by(tmp_path / "run", "wandb")
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = written.read_bytes()
    for text in (b"train/loss", b"compression/rounded/bpb", b"result/val_bpb", b"train.matrix_lr"):
        assert text in content


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_wandb_without_a_key_asks_nobody(tmp_path: Path) -> None:
    """On a terminal it would, and take the terminal from the run."""
    pytest.importorskip("wandb")
    import pty

    program = """
import sys
from pathlib import Path
from golf_fast.report import RunLog
with RunLog(Path(sys.argv[1])) as log:
    log.track(["wandb"], Path(sys.argv[1]), {})
"""
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environ |= {"HOME": str(tmp_path), "TERM": "xterm"}
    run_dir = tmp_path / "run"
    command = [sys.executable, "-c", program, str(run_dir)]
    done = subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, timeout=120)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    assert "wandb: failed to start (" in (run_dir / "log.txt").read_text()


def test_trackio_writes_a_run_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    told_by(tmp_path / "run", "trackio")
    content = b"".join(path.read_bytes() for path in (tmp_path / "trackio").rglob("*") if path.is_file())
    for text in (b"train/loss", b"result/val_bpb"):
        assert text in content


def test_a_package_that_is_broken_costs_the_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    with RunLog(tmp_path) as log:
        log.track(["wandb"], tmp_path, {})
        speak(log)
    assert "wandb: failed to start (AttributeError: " in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["loss"] == 5.0
    assert kinds.KINDS["wandb"] is kinds.Wandb
