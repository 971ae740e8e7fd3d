"""The whole pipeline as a person runs it: what it prints, what it leaves, and what ends it."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from helpers import bare_run
from helpers.ranks import Job
from helpers.small_run import text
from helpers.whole_run import FILES, SMALL, exit_code, pipeline

import golf_fast
from golf_fast.pipeline import baselines
from golf_fast.runs import FinishedRun
from golf_fast.runs.result import read
from golf_fast.score.ledger import ranges_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("pipeline")
    run = pipeline(folder, *SMALL, f"--data.text={text(folder)}", "--run-id=first")
    assert run.returncode == 0, run.stderr
    return folder, run


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process are bare ones."""
    bare_run.leave_out_the_rest(monkeypatch.setattr)


def test_a_run_leaves_what_the_readme_says(finished: tuple[Path, object]) -> None:
    run_dir = finished[0] / "runs" / "first"
    assert {path.name for path in run_dir.iterdir()} == FILES
    result = read(run_dir / "result.json")
    assert result.finished
    assert result.violations == []
    assert "V9, V11: training had no limit of time" in result.not_judged
    assert not result.legal
    assert result.fits
    assert result.track == "B"
    assert result.steps == 6
    assert result.artifact_bytes == (run_dir / "artifact.golf").stat().st_size
    assert result.val_tokens == (run_dir / "token_losses").stat().st_size // 4
    losses = np.fromfile(run_dir / "token_losses", dtype=np.float32)
    assert result.val_bpb == pytest.approx(losses.sum(dtype=np.float64) / math.log(2) / result.val_bytes)
    assert len(result.baselines) == 4
    assert set(result.artifact_parts) == {"mlp", "attention", "bigram", "embedding", "control", "header"}
    assert sum(result.artifact_parts.values()) == result.artifact_bytes
    before = np.fromfile(run_dir / "token_losses_before", dtype=np.float32)
    assert result.bpb_without_ttt == pytest.approx(before.sum(dtype=np.float64) / math.log(2) / result.val_bytes)
    documents = FinishedRun(run_dir).documents()
    assert (documents.targets, sum(documents.bytes)) == (result.val_tokens, result.val_bytes)
    page = (run_dir / "report.html").read_text()
    for title in ("Bytes of the submission", "Hardest and easiest documents", "the hardest: document"):
        assert title in page
    assert len(list((run_dir / "plots").glob("*.png"))) == page.count("<svg") == 8
    assert [metric["step"] for metric in metrics(run_dir, "step")] == list(range(1, 7))
    schedule = FinishedRun(run_dir).schedule()
    assert schedule.steps == 6
    assert schedule.budget is not None
    assert schedule.budget.trained + schedule.budget.quantized == result.train_seconds
    assert schedule.budget.quantized > 0


def metrics(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_a_run_says_what_each_step_of_the_compression_cost(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run_dir = finished[0] / "runs" / "first"
    steps = {record["name"]: record for record in metrics(run_dir, "compression")}
    names = ["trained, averaged", "quantized: gptq_trellis", "coded by zstd", "coded by rans: the artifact"]
    assert list(steps) == names
    assert all(name in finished[1].stdout for name in names)
    result = read(run_dir / "result.json")
    assert steps[names[0]]["bytes"] == 4 * result.params
    assert steps[names[-1]]["bytes"] == result.artifact_bytes
    held = safetensors.torch.load_file(run_dir / "checkpoint" / "weights.safetensors")
    tensors = {record["name"]: record for record in metrics(run_dir, "tensor")}
    assert set(tensors) == {name for name, tensor in held.items() if tensor.numel() > 2048}
    for record in tensors.values():
        assert record["elements"] == held[record["name"]].numel()
        assert 0 < record["error"] < 0.5
        assert 0 < record["output_error"] < record["error"] * 2
        assert abs(record["bpb_change"]) < 0.1
    assert "Quantized tensors" in (run_dir / "report.html").read_text()


def test_a_late_calibration_is_given_up_and_a_target_is_kept(
    finished: tuple[Path, object], bare: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0]
    monkeypatch.chdir(folder)
    first = read(folder / "runs" / "first" / "result.json")
    target = first.code_bytes + first.artifact_bytes - 2000
    limits = ["--train.max-seconds=0.2", "--train.max-steps=1000", "--score.ttt=off"]
    calibration = ["--compress.calibration-seconds=0", "--compress.calibration-tokens=200000"]
    text_flags = [f"--data.text={folder / 'text.jsonl'}", "--run-id=late", f"--compress.target-bytes={target}"]
    assert exit_code(monkeypatch, [*SMALL, *limits, *calibration, *text_flags]) == 0
    result = read(folder / "runs" / "late" / "result.json")
    assert "out of time: rounding by the weights only" in capsys.readouterr().out
    assert "V9" not in result.violations
    assert result.total_bytes <= target
    assert "quantized: trellis" in [step["name"] for step in metrics(folder / "runs" / "late", "compression")]
    assert json.loads((folder / "runs" / "late" / "schedule.json").read_text())["gave_up_calibration"] is True

    replay = [
        "--train.replay-schedule=runs/late",
        "--run-id=late-again",
        "--score.ttt=off",
        f"--data.text={folder / 'text.jsonl'}",
    ]
    assert exit_code(monkeypatch, [*SMALL, *replay, *calibration, f"--compress.target-bytes={target}"]) == 0
    assert read(folder / "runs" / "late-again" / "result.json").val_bpb == result.val_bpb
    late, replayed = (metrics(folder / "runs" / name, "compression") for name in ("late", "late-again"))
    assert late == replayed


def test_the_ledger_accounts_for_every_token(finished: tuple[Path, object]) -> None:
    run_dir = finished[0] / "runs" / "first"
    events = [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text().splitlines()]
    assert events[0] == {
        "event": "begin",
        "targets": read(run_dir / "result.json").val_tokens,
        "strategy": "documents",
    }
    scored: set[int] = set()
    trained: set[int] = set()
    for event in events[1:-1]:
        targets = {target for start, stop in ranges_of(event) for target in range(start, stop)}
        if event["event"] == "score":
            assert not targets & scored
            scored |= targets
        else:
            assert event["event"] == "train"
            assert targets <= scored
            trained |= targets
    assert scored == set(range(events[0]["targets"]))
    assert trained
    assert events[-1]["legal"] is True


def test_lines_can_be_grepped_and_are_kept(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, run = finished
    assert "step:1/6 train_loss:" in run.stdout
    assert "val_loss:" in run.stdout
    assert "val_bpb:" in run.stdout
    assert "\x1b" not in run.stdout
    assert "xz -9e after the training text" in run.stdout
    assert (folder / "runs" / "first" / "log.txt").read_text() == run.stdout


def test_an_earlier_run_is_not_overwritten(
    finished: tuple[Path, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0]
    before = (folder / "runs" / "first" / "result.json").read_bytes()
    monkeypatch.chdir(folder)
    assert exit_code(monkeypatch, [*SMALL, "--data.text=text.jsonl", "--run-id=first"]) == 2
    error = "error: runs/first: holds an earlier run, which stays as it is; choose another --run-id\n"
    assert capsys.readouterr().err == error
    assert (folder / "runs" / "first" / "result.json").read_bytes() == before


def test_a_score_that_is_known_outlives_an_interrupted_comparison(
    finished: tuple[Path, object], bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(baselines, "compare", interrupted)
    monkeypatch.chdir(finished[0])
    assert exit_code(monkeypatch, [*SMALL, "--data.text=text.jsonl", "--run-id=compared"]) == 130
    result = read(finished[0] / "runs" / "compared" / "result.json")
    assert result.finished
    assert result.val_bpb is not None
    assert result.baselines == {}


def test_a_replayed_run_on_two_ranks_gives_the_same_score(
    finished: tuple[Path, object], start_ranks: Callable[..., Job]
) -> None:
    folder = finished[0]
    places = [
        f"--data.text={folder / 'text.jsonl'}",
        f"--data.built={folder / 'data' / 'built'}",
        f"--runs-dir={folder / 'runs'}",
    ]
    replay = [f"--train.replay-schedule={folder / 'runs' / 'first'}", "--run-id=second"]
    with start_ranks(bare_run.__file__, 2, "tiny", *SMALL, *places, *replay) as job:
        ended = job.end(300)
        said = [path.read_text() for path in job.said]
    assert ended == [0, 0], said
    first, second = (read(folder / "runs" / name / "result.json") for name in ("first", "second"))
    assert second.world_size == 2
    assert second.val_bpb == pytest.approx(first.val_bpb, rel=1e-4)
    assert second.data_fingerprint == first.data_fingerprint
    assert "".join(said).count("step:1/6 ") == 1


def test_the_published_protocol_says_that_it_is_not_legal(
    finished: tuple[Path, object], bare: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0]
    arguments = [*SMALL, f"--data.text={folder / 'text.jsonl'}", "--score.ttt=train_then_score", "--run-id=illegal"]
    monkeypatch.chdir(folder)
    assert exit_code(monkeypatch, arguments) == 2
    assert "--score.allow-illegal" in capsys.readouterr().err
    assert exit_code(monkeypatch, [*arguments[:-1], "--score.allow-illegal", "--run-id=labelled"]) == 0
    result = json.loads((folder / "runs" / "labelled" / "result.json").read_text())
    assert result["legal"] is False
    assert result["violations"] == ["V1"]
    assert "NOT LEGAL (V1)" in capsys.readouterr().out


def test_a_run_cannot_hide_what_is_on_record(
    finished: tuple[Path, object], bare: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Validation tokens that are a link to the training tokens, and a replay that takes longer than its limit."""
    folder = finished[0]
    (train,) = sorted((folder / "data").rglob("*_train_*.bin"))[:1]
    shards = folder / "linked"
    shards.mkdir()
    (shards / "linked_train_000000.bin").symlink_to(train)
    (shards / "linked_val_000000.bin").symlink_to(train)
    tokenizer = folder / "runs" / "first" / "tokenizer.model"
    data = ["--data.source=shards", f"--data.shards={shards}", f"--data.tokenizer={tokenizer}"]
    replay = ["--train.replay-schedule=runs/first", "--run-id=linked", "--score.ttt=off"]
    monkeypatch.chdir(folder)
    assert exit_code(monkeypatch, [*SMALL, *data, *replay, "--train.max-seconds=0.001"]) == 0
    said = capsys.readouterr().out
    result = read(folder / "runs" / "linked" / "result.json")
    assert {"V1", "V11"} <= set(result.violations)
    assert not result.legal
    assert "NOT LEGAL (V1, V" in said
    assert "overlap of training and validation" in said


def test_adapting_that_leaves_no_number_fails_and_the_score_without_it_stays(
    finished: tuple[Path, object], bare: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished[0])
    diverging = [
        "--score.ttt=chunked",
        "--score.ttt-lr=1e9",
        "--score.ttt-grad-clip=0",
        "--score.ttt-schedule=constant",
        "--run-id=diverged",
    ]
    assert exit_code(monkeypatch, [*SMALL, "--data.text=text.jsonl", *diverging]) == 2
    error = capsys.readouterr().err
    assert re.search(r"^error: the loss of validation target \d+ of \d+ is nan, in chunk 1 of \d+: adapting", error)
    assert error.count("\n") == 1
    result = read(finished[0] / "runs" / "diverged" / "result.json")
    assert not result.finished
    assert not result.legal
    assert "the run did not finish" in result.not_judged
    assert result.val_bpb is None
    assert result.bpb_without_ttt == read(finished[0] / "runs" / "first" / "result.json").bpb_without_ttt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so(tmp_path: Path, number: signal.Signals) -> None:
    text(tmp_path)
    endless = [argument for argument in SMALL if not argument.startswith("--train.max-steps")]
    command = [sys.executable, str(bare_run.__file__), "tiny", *endless, "--data.text=text.jsonl", "--run-id=cut"]
    environment = os.environ | {"PYTHONPATH": str(Path(golf_fast.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job of a shell ignores it
    )
    assert run.stdout
    assert run.stderr
    for line in run.stdout:
        if line.startswith("step:3/"):
            break
    run.send_signal(number)
    run.stdout.read()
    assert run.stderr.read() == ("interrupted\n" if number == signal.SIGINT else "interrupted: SIGTERM\n")
    assert run.wait(timeout=60) == 128 + number
    result = read(tmp_path / "runs" / "cut" / "result.json")
    assert not result.finished
    assert result.val_bpb is None


def test_files_that_only_accompany_a_run_do_not_end_it(
    finished: tuple[Path, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0]
    monkeypatch.chdir(folder)
    secondary = {"weights.safetensors", "schedule.json", "token_losses", "token_losses_before", "report.html"}
    secondary.add("documents.json")
    sync = os.fsync

    def full(descriptor: int) -> None:
        if any(name in os.readlink(f"/proc/self/fd/{descriptor}") for name in secondary):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert exit_code(monkeypatch, [*SMALL, "--data.text=text.jsonl", "--run-id=full"]) == 0
    said = capsys.readouterr().out
    assert said.count("cannot be written (No space left on device)") >= 4
    assert {path.name for path in (folder / "runs" / "full").iterdir()} == FILES - secondary
    assert read(folder / "runs" / "full" / "result.json").finished


def test_an_artifact_that_cannot_be_written_ends_the_run_in_one_line(
    finished: tuple[Path, object], bare: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0]
    monkeypatch.chdir(folder)
    sync = os.fsync

    def full(descriptor: int) -> None:
        if any(name in os.readlink(f"/proc/self/fd/{descriptor}") for name in ("artifact.golf", "result.json")):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert exit_code(monkeypatch, [*SMALL, "--data.text=text.jsonl", "--run-id=fuller"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: runs/fuller/artifact.golf: cannot be written (No space left on device)")
    assert error.count("\n") == 1
    assert (folder / "runs" / "fuller" / "checkpoint" / "weights.safetensors").exists()
