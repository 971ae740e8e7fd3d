"""Going on with a run that was cut short, as a person asks for it: what is taken, what is refused, what is said."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.audited_run import CODE
from helpers.resumed_run import Call, Whole, result
from helpers.small_run import RESUMED, text

from golf_fast.audit.run.judge import Sample, audit
from golf_fast.compress import deadline
from golf_fast.distributed import Ranks
from golf_fast.pipeline import baselines, context, resume, run
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.resumable import ResumableRun
from golf_fast.pipeline.run import Run
from golf_fast.runs import FinishedRun, RunPaths
from golf_fast.score import Score
from golf_fast.train import Trainer, checkpoint
from golf_fast.train.clock import Clock


def test_sigterm_leaves_a_checkpoint_and_a_line_that_says_how_to_go_on(base: Whole) -> None:
    _, short, _ = base
    lines = (short / "log.txt").read_text().splitlines()
    assert lines[-1] == f"cut short; to go on: python -m golf_fast.train --resume {short}"
    assert result(short)["finished"] is False
    assert sorted(path.name for path in (short / "resume").glob("step-*")) == ["step-00000003", "step-00000005"]


def test_it_goes_on_to_the_result_of_a_run_that_was_not_cut_short(base: Whole, short: Path, call: Call) -> None:
    assert call("--resume", short) == 0
    now, whole = result(short), base[2]
    assert now["finished"]
    assert now["resumed"] == 1
    for name in (
        "val_bpb",
        "bpb_before_compression",
        "bpb_without_ttt",
        "artifact_parts",
        "violations",
        "track",
        "steps",
    ):
        assert now[name] == whole[name], name
    for name in ("artifact.golf", "tokenizer.model", "ledger.jsonl", "token_losses"):
        assert now["file_hashes"][name] == whole["file_hashes"][name], name
    log = (short / "log.txt").read_text()
    assert log.count("resumed at step 5, after ") == 1
    assert not (short / "resume").exists()
    resumed = [each for each in FinishedRun(short).records() if each["kind"] == "resumed"]
    assert [(each["stage"], each["step"], each["done"]) for each in resumed] == [("train", 5, [])]


def test_a_finished_run_is_refused(base: Whole, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    whole = base[0] / "whole"
    assert call(f"--resume={whole}") == 2
    assert capsys.readouterr().err == f"error: {whole}: the run has finished; there is nothing to go on with\n"


def test_an_older_checkpoint_can_be_named_and_newer_ones_are_forgotten(base: Whole, short: Path, call: Call) -> None:
    assert call("--resume", short / "resume" / "step-00000003", "--train.checkpoint-every=0") == 0
    assert result(short)["val_bpb"] == base[2]["val_bpb"]
    assert "resumed at step 3, after " in (short / "log.txt").read_text()
    assert [each["step"] for each in FinishedRun(short).records() if each["kind"] == "train"] == list(range(1, 21))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(base: Whole, short: Path, call: Call) -> None:
    (short / "resume" / "step-00000005" / "rank-0-of-1.safetensors").write_bytes(b"x" * 1000)
    assert call("--resume", short) == 0
    log = (short / "log.txt").read_text()
    assert "rank-0-of-1.safetensors: is damaged" in log
    assert "resumed at step 3, after " in log
    assert result(short)["val_bpb"] == base[2]["val_bpb"]


def test_without_any_checkpoint_it_goes_on_from_the_start(base: Whole, short: Path, call: Call) -> None:
    for folder in (short / "resume").glob("step-*"):
        shutil.rmtree(folder)
    with (short / "log.txt").open("a") as log:
        log.write("half a li")
    assert call("--resume", short) == 0
    text = (short / "log.txt").read_text()
    assert "half a li\ngoing on with the run of" in text
    assert "resumed at the start of the training; it was cut short in the stage 'train': " in text
    assert result(short)["val_bpb"] == base[2]["val_bpb"]
    assert result(short)["repeated_seconds"] > 0


def test_a_run_goes_on_where_no_checkpoint_can_be_written(
    base: Whole, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder of what a run goes on from is a file: nothing can be kept, and nothing is lost."""
    folder, _, whole = base
    make = ResumableRun.train

    def without(run: ResumableRun) -> Any:
        shutil.rmtree(run.products.folder)
        run.products.folder.write_text("x")
        return make(run)

    monkeypatch.setattr(ResumableRun, "train", without)
    arguments = ["tiny", *RESUMED, f"--data.text={text(folder)}", f"--data.built={folder / 'built'}"]
    assert call(*arguments, f"--runs-dir={tmp_path}", "--run-id=x") == 0
    assert result(tmp_path / "x")["val_bpb"] == whole["val_bpb"]
    assert "the run goes on without this checkpoint" in (tmp_path / "x" / "log.txt").read_text()


def test_what_was_spent_on_quantizing_before_counts() -> None:
    budget = Budget(limit=100.0, kept=20.0, trained=78.0, repeated=15.0)
    assert budget.for_quantizing == pytest.approx(7.0)


def cut_in(short: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Go on, and interrupt the stage of that name after it has worked."""
    score, compress = Run.score, run.compress

    def stop(*arguments: Any, **more: Any) -> Any:
        made = (score if name.startswith("score") else compress)(*arguments, **more)
        if name == "compress" or arguments[1] == name:
            raise KeyboardInterrupt
        return made

    with monkeypatch.context() as patch:
        if name == "compress":
            patch.setattr(run, "compress", stop)
        else:
            patch.setattr(Run, "score", stop)
        assert call("--resume", short) == 130


def test_the_time_of_stages_that_were_cut_short_counts(
    short: Path, call: Call, monkeypatch: pytest.MonkeyPatch, base: Whole
) -> None:
    for name in ("compress", "score while adapting"):
        cut_in(short, call, monkeypatch, name)
    began = [json.loads(line) for line in (short / "resume" / "stages.jsonl").read_text().splitlines()]
    cut = {each["stage"]: each["seconds"] for each in began if each["event"] == "cut"}
    assert cut["compress"] > 0
    time.sleep(1.0)  # it stands still: that counts nowhere
    assert call("--resume", short) == 0
    held = FinishedRun(short)
    budget, now = held.schedule().budget, result(short)
    assert budget is not None
    assert budget.quantized > cut["compress"]
    assert now["train_seconds"] == budget.trained + budget.quantized
    resumed = [each for each in held.records() if each["kind"] == "resumed"]
    assert [each["stage"] for each in resumed] == ["train", "compress", "score while adapting"]
    assert resumed[0]["trained"] > 0
    assert [each["trained"] for each in resumed[1:]] == [0, 0]
    assert now["eval_seconds"] > resumed[-1]["lost"] > 0
    assert now["repeated_seconds"] == pytest.approx(sum(each["lost"] for each in resumed))
    assert any("work were done again" in said for said in now["not_judged"])
    assert now["val_bpb"] == base[2]["val_bpb"]
    assert {each["name"] for each in held.records() if each["kind"] == "repeated"} == {
        "compress",
        "score while adapting",
    }
    found = audit(short, Sample(), torch.device("cpu"), code=CODE)
    assert [each for each in found.findings if each.outcome == "flag"] == []
    assert found.of("settings")
    assert not any("are no records" in each.text for each in found.findings)
    log = (short / "log.txt").read_text()
    events = len((short / "ledger.jsonl").read_text().splitlines())
    assert f"score while adapting: all {events} records of the pass that was cut short came again" in log


@pytest.mark.parametrize("name", ["trained", "compressed", "before"])
def test_a_damaged_product_is_made_again(
    base: Whole, short: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cut_in(short, call, monkeypatch, "score while adapting")
    file = short / "resume" / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert call("--resume", short) == 0
    log = (short / "log.txt").read_text()
    assert f"{name}.safetensors: is damaged" in log
    assert log.count("done before the run was cut short") < 5
    assert result(short)["val_bpb"] == base[2]["val_bpb"]
    assert result(short)["artifact_parts"] == base[2]["artifact_parts"]


def test_an_artifact_that_somebody_changed_is_made_again(
    base: Whole, short: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_in(short, call, monkeypatch, "score while adapting")
    (short / "artifact.golf").write_bytes(b"x")
    assert call("--resume", short) == 0
    assert "artifact.golf: is not what the run left there; made again" in (short / "log.txt").read_text()
    assert result(short)["file_hashes"]["artifact.golf"] == base[2]["file_hashes"]["artifact.golf"]


def test_a_run_that_was_cut_short_after_its_score_gets_the_rest(
    base: Whole, short: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(baselines, "compare", interrupted)
        assert call("--resume", short) == 130
    ledger = (short / "ledger.jsonl").read_bytes()
    assert result(short)["finished"]
    assert result(short)["baselines"] == {}
    assert call("--resume", short) == 0
    assert result(short)["baselines"] == base[2]["baselines"]
    assert result(short)["val_bpb"] == base[2]["val_bpb"]
    assert (short / "ledger.jsonl").read_bytes() == ledger
    assert not (short / "resume").exists()


def test_a_run_that_ends_by_the_clock_keeps_its_limit(
    base: Whole, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The clock goes on where it was: what was trained before counts, what the run stood still does not.

    A hundredth of a second passes each time that somebody looks at the clock, however fast this machine is.
    """
    looked = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(looked) / 100)
    for module in (context, deadline):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Clock.__init__, "__defaults__", (clock.perf_counter,))
    step, steps = Trainer.step, 0

    def stopping(trainer: Trainer, rates: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, rates)

    arguments = ["tiny", *RESUMED, f"--data.text={text(base[0])}", f"--data.built={base[0] / 'built'}"]
    limits = ["--train.max-seconds=2", "--train.max-steps=100000", "--compress.calibration-seconds=0.5"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        assert call(*arguments, *limits, f"--runs-dir={tmp_path}", "--run-id=x") == 143
    before = checkpoint.newest(tmp_path / "x" / "resume", lambda text: None)
    assert before is not None
    assert before.step == 5
    looked = itertools.count(10**6)
    assert call("--resume", tmp_path / "x") == 0
    held = FinishedRun(tmp_path / "x")
    budget = held.schedule().budget
    assert budget is not None
    assert before.seconds < budget.trained <= 1.5
    assert held.schedule().steps > 5
    assert not {"V9", "V11"} & set(held.result().violations)


def test_a_limit_of_scoring_is_what_is_left_of_it(short: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((short / "config.json").read_text())
    config["config"]["score"]["max_seconds"] = 1000.0
    (short / "config.json").write_text(json.dumps(config))
    cut_in(short, call, monkeypatch, "score while adapting")
    asked: list[float] = []
    score = Run.score

    def noted(self: Run, name: str, weights: Any, config: Any, *, final: bool = False) -> Score:
        asked.append(config.max_seconds)
        return score(self, name, weights, config, final=final)

    monkeypatch.setattr(Run, "score", noted)
    assert call("--resume", short) == 0
    lost = [each["lost"] for each in FinishedRun(short).records() if each["kind"] == "resumed"]
    assert asked == [pytest.approx(1000.0 - lost[-1])]


def test_a_pass_that_does_not_come_again_is_said(short: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_in(short, call, monkeypatch, "score while adapting")
    ledger = short / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    event = json.loads(lines[2])
    event["weights" if "weights" in event else "tokens"] = "0" * 16
    ledger.write_text("".join([*lines[:2], json.dumps(event) + "\n", *lines[3:6]]) + '{"event": "sco')
    assert call("--resume", short) == 0
    said = [each for each in result(short)["not_judged"] if each.startswith("evaluation: a pass was cut short")]
    assert len(said) == 1
    assert "of the 6 records that it left, the first 2 came again" in said[0]


def test_torchrun_that_starts_its_ranks_again_goes_on_with_what_they_had_begun(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(FinishedRun(short).config, runs_dir=short.parent)
    single = Ranks.single()
    (short / "config.json").write_text(json.dumps({"config": config.as_dict(), "origins": {}}))
    assert resume.restarted(config, single) is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert resume.restarted(config, single) is None  # another launch began it
    record = resume.resume_records.read(RunPaths(short).resume / "run")
    resume.resume_records.write(RunPaths(short).resume / "run", {**record.fields, "launch": ["one"]})
    found = resume.restarted(config, single)
    assert found is not None
    assert found.folder == short
    assert resume.restarted(replace(config, seed=1), single) is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert resume.restarted(config, single) is None
