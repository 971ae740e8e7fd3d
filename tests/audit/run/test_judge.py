"""The audit of a run: an honest one passes, of any strategy and version, and another's model does not."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers.audited_run import CODE, EARLIER, budget, change, judged, score_again, train

from golf_fast.audit.__main__ import main as audit_main
from golf_fast.audit.run.finding import Finding
from golf_fast.audit.run.judge import Audit
from golf_fast.console import exit_with
from golf_fast.data import read_shard, write_shard


def of_replay(found: Audit) -> list[Finding]:
    """What is said of the losses of the score, beside the hash of their file."""
    said = [finding for finding in found.of("losses") if "hash" not in finding.text and "SHA" not in finding.text]
    return [finding for finding in said if finding.where != "token_losses_before"]


def test_an_honest_run_is_not_flagged_and_stays_as_it_is(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    found = judged(made, full=True)
    assert found.flagged == [], found.lines()
    outcomes = {check["check"]: check["outcome"] for check in found.as_json()["checks"]}
    passing = (
        "V1",
        "V2",
        "V3",
        "V4",
        "V5",
        "V6",
        "V7",
        "V12",
        "V13",
        "artifact",
        "ledger",
        "losses",
        "result",
        "settings",
    )
    assert {outcomes[check] for check in passing} == {"pass"}, found.lines()
    assert outcomes["V14"] == outcomes["V8"] == outcomes["code"] == "unknown"
    assert found.verdict is not None
    assert found.verdict.track == "B"
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}


def test_bytes_beside_the_tokens_are_the_run_s_and_the_text_s(tmp_path: Path) -> None:
    run = train(tmp_path, "--data.case-ops", "--score.ttt=off")
    found = judged(run, full=True)
    assert found.flagged == [], found.lines()
    assert {finding.outcome for rule in ("V6", "V7", "losses") for finding in found.of(rule)} == {"pass"}
    ((name, _),) = json.loads((run / "result.json").read_text())["validation_bytes"].items()
    numbers = read_shard(Path(name)).copy()
    numbers[7] += 1
    write_shard(Path(name), numbers)
    assert "the run was scored on" in judged(run, targets=32).of("V6")[-1].text  # another file is another
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    total = int(numbers[1 : 1 + json.loads((run / "result.json").read_text())["val_tokens"]].sum())
    change(run / "result.json", validation_bytes={name: digest}, val_bytes=total)
    assert "the side-car counts" in judged(run, targets=32).of("V6")[-1].text
    assert judged(run, targets=32).of("V6")[-1].outcome == "unknown"
    write_shard(Path(name), 2 * numbers)
    change(run / "result.json", validation_bytes={name: hashlib.sha256(Path(name).read_bytes()).hexdigest()})
    change(run / "result.json", val_bytes=2 * total)
    assert "V6" in judged(run, targets=32).flagged


def test_a_model_that_keeps_documents_separate_is_judged_document_by_document(tmp_path: Path) -> None:
    run = train(tmp_path, "--model.separate-documents", "--score.ttt=off", "--score.documents.context=64")
    for found in (judged(run, full=True), judged(run, targets=100)):
        assert found.flagged == [], found.lines()
        assert {finding.outcome for rule in ("V3", "V13", "losses") for finding in found.of(rule)} == {"pass"}
    assert "every range lies in one of" in found.of("V13")[0].text


def test_training_before_a_run_was_cut_short_counts_and_no_more(run: Path) -> None:
    """The clock of the training goes on from a checkpoint, that of its stage begins anew."""
    held = json.loads((run / "schedule.json").read_text())["budget"]
    budget(run, trained=held["trained"] + 50)
    change(run / "result.json", train_seconds=held["trained"] + 50 + held["quantized"])
    assert "V11" in judged(run, targets=32).flagged
    metrics = (run / "metrics.jsonl").read_text()
    for carried, flagged in ((20.0, True), (50.0, False)):
        resumed = {"kind": "resumed", "stage": "train", "step": 0, "done": ["data"], "lost": 0.0, "trained": carried}
        (run / "metrics.jsonl").write_text(json.dumps(resumed) + "\n" + metrics)
        assert ("V11" in judged(run, targets=32).flagged) is flagged


def test_a_sample_of_an_adapting_run_says_what_it_leaves_open(made: Path) -> None:
    found = judged(made, targets=200)
    assert found.flagged == []
    losses = of_replay(found)
    assert [finding.outcome for finding in losses] == ["pass", "unknown"]
    assert "of 480 targets replayed" in losses[0].text
    assert "--full replays them, in about" in losses[1].text


def test_a_run_of_an_earlier_version_is_not_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EARLIER)
    found = judged(EARLIER / "run")
    assert found.flagged == [], found.lines()
    assert of_replay(found)[0].outcome == "pass"
    hashes = [finding for check in ("losses", "ledger", "settings") for finding in found.of(check)]
    assert sum("records no hash of it" in finding.text for finding in hashes) == 4
    assert any("machine: is not on record" in finding.said for finding in found.of("settings"))


@pytest.mark.parametrize("ttt", ["off", "documents"])
def test_what_does_not_go_on_is_sampled_anywhere(tmp_path: Path, stranger: Path, ttt: str) -> None:
    """And an artifact of another model, put in its place with every number that is about the file, is found."""
    more = [f"--score.ttt={ttt}", "--score.documents.rank=2", "--score.documents.context=32"]
    more += ["--score.documents.chunk-tokens=16", "--score.documents.batch=2"]
    one = train(tmp_path, *more)
    found = judged(one, targets=64)
    assert found.flagged == [], found.lines()
    assert [finding.outcome for finding in of_replay(found)] == ["pass"]
    shutil.copy(stranger, one / "artifact.golf")
    content = (one / "artifact.golf").read_bytes()
    result = json.loads((one / "result.json").read_text())
    hashes = result["file_hashes"] | {"artifact.golf": hashlib.sha256(content).hexdigest()}
    change(one / "result.json", artifact_bytes=len(content), total_bytes=len(content) + result["code_bytes"])
    change(one / "result.json", file_hashes=hashes, artifact_parts={})
    swapped = judged(one, targets=64)
    assert {"artifact", "losses"} <= set(swapped.flagged), swapped.lines()
    assert any("the first score is by weights" in finding.said for finding in swapped.of("artifact"))


def test_the_command_exits_with_1_0_and_2(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("golf_fast.audit.run.files.installed_code", lambda config: CODE)

    def ended(*arguments: object) -> object:
        monkeypatch.setattr(sys, "argv", ["audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            exit_with(audit_main)
        return stop.value.code

    def ship(script: str) -> None:
        code = (Path(__file__).parents[1] / "scripts" / script).read_bytes()
        (run / "train_gpt.py").write_bytes(code)
        total = json.loads((run / "result.json").read_text())["artifact_bytes"] + len(code)
        digest = hashlib.sha256(code).hexdigest()
        change(run / "result.json", code_hash=digest, code_bytes=len(code), total_bytes=total)

    ship("legal_baseline.py")
    assert ended(run, "--device=cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out)["flagged"] == []
    ship("illegal_network.py")
    assert ended(run, "--device=cpu") == 1
    assert "train_gpt.py: breaks V12: " in capsys.readouterr().out
    score_again(run)
    assert ended(run, "--device=cpu") == 1
    assert capsys.readouterr().out.endswith("flagged: V3, code, ledger, result\n")
    assert ended(tmp_path) == 2
    (run / "config.json").write_text("{}")
    assert ended(run) == 2
