"""The audit of a run: an honest one passes, and each kind of forgery is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golf_fast.audit.__main__ import main as audit_main
from golf_fast.audit.run import record
from golf_fast.audit.run.finding import Finding
from golf_fast.audit.run.judge import Audit, audit
from golf_fast.audit.run.replay import Sample
from golf_fast.code_size import Code
from golf_fast.config import RunConfig, ScoreConfig
from golf_fast.console import exit_with
from golf_fast.data import read_shard, write_shard
from golf_fast.errors import InputError
from golf_fast.score.verdict import Facts, Records, judge
from golf_fast.train.__main__ import main as train_main

EARLIER = Path(__file__).parents[2] / "runs" / "earlier"
SMALL = [
    "tiny",
    "--device=cpu",
    "--run-id=run",
    "--model.vocab-size=300",
    "--model.dim=16",
    "--model.layers=2",
    "--model.heads=2",
    "--model.kv-heads=1",
    "--model.bigram-buckets=31",
    "--model.bigram-dim=8",
    "--train.max-seconds=100",
    "--train.max-steps=4",
    "--train.warmup-steps=0",
    "--train.batch-tokens=512",
    "--train.seq-len=32",
    "--train.compute-dtype=float32",
    "--compress.calibration-tokens=512",
    "--compress.fp16-max-elements=256",
    "--score.window=32",
    "--score.stride=16",
    "--score.ttt=chunked",
    "--score.ttt-chunk-tokens=128",
]
CODE = ("0" * 64, 1000)
"""An installed code that is not the run's: building the real one takes longer than the rest of an audit."""


def train(folder: Path, *more: str) -> Path:
    """A run without its pictures and its code, which take longer than all else and which no audit here reads."""
    flags = [f"--data.text={EARLIER / 'text.jsonl'}", f"--data.built={folder / 'built'}", f"--runs-dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", *SMALL, *flags, *more])
        patch.setattr("golf_fast.code_size.code", lambda config: Code(b"code"))
        for name in ("write_html", "write_pictures"):
            patch.setattr(f"golf_fast.pipeline.execute.{name}", lambda folder: None)
        with pytest.raises(SystemExit) as stop:
            exit_with(train_main, prints=False)
    assert stop.value.code == 0
    return folder / "run"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a run with another seed; how that run was scored is not in it."""
    return train(tmp_path_factory.mktemp("other"), "--score.ttt=off", "--seed=7") / "artifact.golf"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to be forged."""
    return shutil.copytree(made, tmp_path / "run")


def judged(run: Path, data: Path | None = None, **sample: Any) -> Audit:
    return audit(run, Sample(**sample), torch.device("cpu"), data, CODE)


def of_replay(found: Audit) -> list[Finding]:
    """What is said of the losses, beside the hash of their file."""
    return [finding for finding in found.of("losses") if "hash" not in finding.text and "SHA" not in finding.text]


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def ledger_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]


def write_ledger(run: Path, events: list[dict[str, Any]]) -> None:
    (run / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def train_early(run: Path) -> None:
    events = ledger_of(run)
    events[1], events[2] = events[2], events[1]
    write_ledger(run, events)


def score_again(run: Path) -> None:
    events = ledger_of(run)
    write_ledger(run, [*events[:2], events[1], *events[2:]])


def second_pass(run: Path) -> None:
    events = ledger_of(run)
    write_ledger(run, [*events[:-1], *events])


def leave_out(run: Path) -> None:
    events = ledger_of(run)
    del events[3]
    write_ledger(run, events)


def other_tokens(run: Path) -> None:
    events = ledger_of(run)
    events[1]["tokens"] = "0" * 16
    write_ledger(run, events)


def cut_without_a_limit(run: Path) -> None:
    events = ledger_of(run)
    events.insert(2, {"event": "limit", "what": "epochs", "place": 0, "done": 0, "planned": 3})
    write_ledger(run, events)


def hide_training(run: Path) -> None:
    write_ledger(run, [event for event in ledger_of(run) if event["event"] != "train"])


def other_losses(run: Path) -> None:
    """Better ones, with everything that follows from them."""
    losses = np.fromfile(run / "token_losses", "<f4") - np.float32(0.02)
    losses.tofile(run / "token_losses")
    result = json.loads((run / "result.json").read_text())
    nats = float(losses.sum(dtype=np.float64))
    bpb = nats / np.log(2) / result["val_bytes"]
    change(run / "result.json", val_loss=nats / len(losses), val_bpb=bpb)


def last_bit(run: Path) -> None:
    content = bytearray((run / "token_losses").read_bytes())
    content[40] ^= 1
    (run / "token_losses").write_bytes(content)


def fewer_losses(run: Path) -> None:
    losses = np.fromfile(run / "token_losses", "<f4")
    losses[:-32].tofile(run / "token_losses")


def damage(run: Path) -> None:
    content = bytearray((run / "artifact.golf").read_bytes())
    content[100] ^= 1
    (run / "artifact.golf").write_bytes(content)


def lengthen(run: Path) -> None:
    with (run / "artifact.golf").open("ab") as file:
        file.write(b"1")


def budget(run: Path, **fields: float) -> None:
    held = json.loads((run / "schedule.json").read_text())
    change(run / "schedule.json", budget=held["budget"] | fields)


def rates(run: Path) -> None:
    held = json.loads((run / "schedule.json").read_text())
    change(run / "schedule.json", lr_factor=[2 * factor for factor in held["lr_factor"]])


def setting(run: Path, stage: str, **fields: Any) -> None:
    held = json.loads((run / "config.json").read_text())
    held["config"][stage] |= fields
    (run / "config.json").write_text(json.dumps(held))


def slow_evaluation(run: Path) -> None:
    setting(run, "score", max_seconds=0.0001)


FORGERIES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "trained before it scored": (train_early, "V1", "ledger.jsonl line 2: targets 0 to 128 are trained on"),
    "scored a range again": (score_again, "V3", "ledger.jsonl line 3: targets 0 to 128 are scored"),
    "a second pass": (second_pass, "V3", "a second pass begins"),
    "left a range out": (leave_out, "V3", "ledger.jsonl line 5"),
    "other tokens": (other_tokens, "ledger", "the hash of targets 0 to 128"),
    "gave up time that it had": (cut_without_a_limit, "ledger", "line 3: something was given up"),
    "hid the training": (hide_training, "V1", "the weights changed, and no record says what they learned"),
    "other losses": (other_losses, "losses", "the mean by +0.0"),
    "fewer losses": (fewer_losses, "V3", "holds 448 losses"),
    "a better score": (lambda run: change(run / "result.json", val_bpb=1.0), "result", "val_bpb: is 1.0, the losses"),
    "a smaller file": (lambda run: change(run / "result.json", artifact_bytes=9), "V10", "artifact_bytes is 9"),
    "a flag that is not derived": (lambda run: change(run / "result.json", fits=False), "result", "fits is False"),
    "another track": (lambda run: change(run / "result.json", track="A"), "result", "track: is A"),
    "more bytes of text": (lambda run: change(run / "result.json", val_bytes=600), "V6", "is 600, the text of"),
    "the result of another run": (lambda run: change(run / "result.json", run_id="x"), "result", "run_id: is x"),
    "other parameters": (lambda run: change(run / "result.json", params=5), "result", "params: is 5"),
    "a damaged artifact": (damage, "artifact", "the checksum"),
    "a longer artifact": (lengthen, "V10", "artifact_bytes is"),
    "less training time": (lambda run: budget(run, trained=1e-6), "V11", "budget.trained: is 1e-06 s, the last step"),
    "a larger limit": (lambda run: budget(run, limit=700.0), "V11", "budget.limit: is 700 s"),
    "calibration for nothing": (lambda run: budget(run, quantized=0.0), "V9", "budget.quantized: is 0"),
    "late calibration": (lambda run: budget(run, quantized=200.0), "V9", "quantizing 200 s of 100 s"),
    "an overrun": (lambda run: budget(run, trained=101.0), "V11", "training took 101.0 s (limit 100)"),
    "an evaluation too long": (slow_evaluation, "V11", "(limit 0.0001)"),
    "other rates": (rates, "settings", "lr_factor: is"),
    "other settings of the model": (lambda run: setting(run, "model", rope_base=500.0), "settings", "model.rope_base"),
    "another strategy": (lambda run: setting(run, "score", ttt="off"), "settings", "score.ttt is off"),
    "another length of rows": (lambda run: setting(run, "train", seq_len=64), "settings", "config.json: has SHA-256"),
    "another rate of adapting": (lambda run: setting(run, "score", ttt_lr=0.1), "settings", "config.json: has SHA-256"),
    "another text": (lambda run: setting(run, "data", text="other"), "settings", "config.json: has SHA-256"),
    "another schedule": (lambda run: budget(run, kept=1.0), "settings", "schedule.json: has SHA-256"),
    "another ledger": (lambda run: (run / "ledger.jsonl").open("a").write(" \n"), "ledger", "ledger.jsonl: "),
    "other rounding": (last_bit, "losses", "token_losses: has SHA-256"),
    "more devices": (
        lambda run: change(run / "result.json", world_size=8),
        "result",
        "world_size: is 8, the run began",
    ),
    "another device": (lambda run: change(run / "result.json", device="NVIDIA H100"), "result", "device: is NVIDIA"),
    "fewer steps": (lambda run: change(run / "result.json", steps=3), "settings", "has 4 steps, the result 3"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_found_and_named(run: Path, forgery: str) -> None:
    forge, check, said = FORGERIES[forgery]
    forge(run)
    found = judged(run, targets=32)
    assert check in found.flagged
    assert any(said in finding.said for finding in found.of(check) if finding.outcome == "flag"), found.lines()


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


def test_a_shortened_split_is_found(run: Path, tmp_path: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    (name,) = result["validation_shards"]
    tokens = read_shard(Path(name))
    for folder, count in (("short", -40), ("fineweb10B_sp1024", None)):
        (tmp_path / folder).mkdir()
        write_shard(tmp_path / folder / Path(name).name, tokens[:count])
    changed = judged(run, tmp_path / "short").of("V8")
    assert any("the run was scored on" in finding.said and finding.outcome == "flag" for finding in changed)
    named = judged(run, tmp_path / "fineweb10B_sp1024").of("V8")
    assert any("480 targets were scored" in finding.said and finding.outcome == "flag" for finding in named)
    write_shard(tmp_path / "fineweb10B_sp1024" / "text_val_000001.bin", tokens)
    more = judged(run, tmp_path / "fineweb10B_sp1024").of("V8")
    assert any("1 validation shards were not scored" in finding.said for finding in more)


def test_what_is_missing_is_unknown_and_not_passed(run: Path, tmp_path: Path) -> None:
    for name in ("ledger.jsonl", "token_losses", "schedule.json", "artifact.golf"):
        (run / name).unlink()
    found = judged(run, tmp_path / "nowhere")
    assert found.flagged == []
    assert {finding.outcome for check in ("V1", "V3", "V9", "V10", "V11", "losses") for finding in found.of(check)} == {
        "unknown"
    }


ODD = {"artifact.golf": "artifact", "tokenizer.model": "artifact", "token_losses": "losses"}
ODD |= {"schedule.json": "settings", "ledger.jsonl": "ledger"}


@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a device"])
def test_what_is_no_file_is_flagged_and_never_waited_for(run: Path, kind: str) -> None:
    for name in ODD:
        (run / name).unlink()
        if kind == "a folder":
            (run / name).mkdir()
        elif kind == "a named pipe":
            os.mkfifo(run / name)
        else:
            (run / name).symlink_to("/dev/zero")
    found = judged(run, targets=32)
    assert set(found.flagged) >= set(ODD.values()), found.lines()
    for name, check in ODD.items():
        said = [finding.said for finding in found.of(check) if finding.outcome == "flag"]
        assert any(name in each and f"is {kind}, not a file" in each for each in said), (name, said)


def test_a_file_that_cannot_be_read_is_flagged(run: Path) -> None:
    (run / "token_losses").write_bytes(b"12345")
    (run / "schedule.json").write_text("{")
    (run / "tokenizer.model").write_bytes(b"\0" * 40)
    found = judged(run, targets=32)
    assert {"losses", "settings", "artifact"} <= set(found.flagged), found.lines()


@pytest.mark.parametrize("damage", ["a folder", "not text", "no records", "half a line", "wrong kinds", "gone"])
def test_damaged_metrics_do_not_end_an_audit(run: Path, damage: str) -> None:
    """They accompany a run; what they would show is not passed, and it is said."""
    path = run / "metrics.jsonl"
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        made = {
            "not text": b"\xff\xfe\0" * 50,
            "no records": b"[1]\nnull\n",
            "half a line": content[:-9],
            "wrong kinds": b'{"kind": "train", "step": "x", "seconds": null}\n{"kind": ["stage"], "name": {}}\n',
        }
        path.write_bytes(made[damage])
    found = judged(run, targets=32)
    assert found.flagged == [], found.lines()
    assert {finding.outcome for finding in found.of("V11")} != {"pass"}
    if damage != "wrong kinds":
        assert any(
            "metrics.jsonl: " in finding.said and finding.outcome == "unknown" for finding in found.of("settings")
        )


def test_the_command_exits_with_1_0_and_2(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("golf_fast.audit.run.files.installed_code", lambda config: CODE)

    def ended(*arguments: object) -> object:
        monkeypatch.setattr(sys, "argv", ["audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            exit_with(audit_main)
        return stop.value.code

    assert ended(run, "--device=cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out)["flagged"] == []
    score_again(run)
    assert ended(run, "--device=cpu") == 1
    assert capsys.readouterr().out.endswith("flagged: V3, ledger, result\n")
    assert ended(tmp_path) == 2
    (run / "config.json").write_text("{}")
    assert ended(run) == 2


def test_a_ledger_of_no_sense_is_named(run: Path) -> None:
    for line, said in (
        ('{"event": "score", "start": -1, "stop": 2}', "start is -1"),
        ('{"event": "begin", "targets": 1e300}', "targets is 1e"),
        ('{"event": "dance"}', "the event is 'dance'"),
    ):
        (run / "ledger.jsonl").write_text(line + "\n")
        assert any(said in finding.said for finding in judged(run).of("ledger")), said


@pytest.mark.parametrize("strategy", ["chunked", "documents"])
def test_records_of_any_order_and_place_get_a_verdict(run: Path, strategy: str) -> None:
    """On the record itself: no replay."""
    events = [event for event in ledger_of(run) if event["event"] in ("begin", "score", "train")]
    tokens = np.arange(481, dtype=np.uint16) % 300
    draw = random.Random(1)
    for _ in range(60):
        forged = []
        for event in draw.choices(events, k=draw.randint(0, 6)):
            place = [draw.randint(0, 600), draw.randint(0, 600)]
            forged.append(
                draw.choice([event, event | {"start": place[0], "stop": place[1]}, event | {"ranges": [place]}])
            )
            if "ranges" in forged[-1]:
                forged[-1] = {name: value for name, value in forged[-1].items() if name not in ("start", "stop")}
        path = run / "ledger.jsonl"
        for event in record.checked(forged, path):
            assert record.what_line([event], 1)
        records = Records(forged)
        verdict = judge(records, Facts(finished=True, split_targets=600, window=1))
        assert "V3" in verdict.violations or "V8" in verdict.violations or "V1" in verdict.violations
        record.tokens_named(forged, tokens, path)
        record.weights_named(forged, path, "0" * 16, exact=True)
        record.documents_kept_apart(forged, tokens, 1, path, RunConfig(score=ScoreConfig(ttt=strategy)))
        for rule in verdict.violations:
            assert record.by_line(forged, rule, path, records.violations.get(rule)).outcome == "flag"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        judged(tmp_path)
