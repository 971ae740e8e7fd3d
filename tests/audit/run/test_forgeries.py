"""Each kind of forgery is found and named."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.audited_run import (
    budget,
    change,
    each,
    judged,
    ledger_of,
    metrics,
    of_stage,
    rehash,
    score_again,
    setting,
    write_ledger,
)

from golf_fast.data import read_shard, write_shard


def train_early(run: Path) -> None:
    events = ledger_of(run)
    events[1], events[2] = events[2], events[1]
    write_ledger(run, events)


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


def rates(run: Path) -> None:
    held = json.loads((run / "schedule.json").read_text())
    change(run / "schedule.json", lr_factor=[2 * factor for factor in held["lr_factor"]])


def slow_evaluation(run: Path) -> None:
    setting(run, "score", max_seconds=0.0001)


def another_tokenizer(run: Path) -> None:
    with (run / "tokenizer.model").open("ab") as file:
        file.write(b"\xa2\x06\x01x")  # a field that SentencePiece does not know


def fewer_tokens(run: Path) -> None:
    (name,) = json.loads((run / "result.json").read_text())["validation_shards"]
    shard = run / Path(name).name
    write_shard(shard, read_shard(Path(name))[:-40])
    change(run / "result.json", validation_shards={str(shard): hashlib.sha256(shard.read_bytes()).hexdigest()})


def gpu(run: Path) -> None:
    held = json.loads((run / "config.json").read_text())
    change(run / "config.json", machine=held["machine"] | {"device": "NVIDIA H100"})
    change(run / "result.json", device="NVIDIA H100", versions={"torch": "2.13.0+cpu"})


def gpu_of_torch(run: Path) -> None:
    gpu(run)
    backend = {"name": "native", "reason": "a pass in C++ (avx512); float16 and float64 run the reference"}
    change(run / "result.json", versions={"torch": "2.13.0+cu128"}, backends={"rms_norm": backend})


def other_weights(run: Path) -> None:
    """Of every score but the first, in a way that no rule on changes of weights notices."""
    first, names = ledger_of(run)[1]["weights"], {}

    def edit(event: dict[str, Any]) -> dict[str, Any]:
        if event.get("weights", first) == first:
            return event
        return event | {"weights": names.setdefault(event["weights"], f"{len(names):016x}")}

    each(run, edit)


def adapt_again(run: Path) -> None:
    events = ledger_of(run)
    events.insert(4, {"event": "adapt", "source": "training", "size": 64, "tokens": "a" * 16})
    write_ledger(run, events)


def gained_more(run: Path) -> None:
    """The result and the metrics agree on a worse score without adapting."""
    change(run / "result.json", bpb_without_ttt=6.0)
    of_stage(run, "score after compression", bpb=6.0)


def gained_more_by_losses(run: Path) -> None:
    """And so do the losses."""
    losses = np.fromfile(run / "token_losses_before", "<f4") + np.float32(0.5)
    losses.tofile(run / "token_losses_before")
    bytes_of_text = json.loads((run / "result.json").read_text())["val_bytes"]
    bpb = float(losses.sum(dtype=np.float64)) / math.log(2) / bytes_of_text
    change(run / "result.json", bpb_without_ttt=bpb)
    of_stage(run, "score after compression", bpb=bpb)


def fewer_losses_before(run: Path) -> None:
    losses = np.fromfile(run / "token_losses_before", "<f4")
    losses[:-9].tofile(run / "token_losses_before")


def of_documents(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    held = json.loads((run / "documents.json").read_text())
    edit(held)
    (run / "documents.json").write_text(json.dumps(held))


def trained_less(run: Path) -> None:
    """The metrics forget the steps that took longer than the schedule says."""
    metrics(run, lambda record: None if record.get("kind") == "train" and record["step"] > 1 else record)
    first = next(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"train"' in line)
    budget(run, trained=first["seconds"])
    quantized = json.loads((run / "schedule.json").read_text())["budget"]["quantized"]
    change(run / "result.json", train_seconds=first["seconds"] + quantized)


def more_steps(run: Path) -> None:
    held = json.loads((run / "schedule.json").read_text())
    rates = {name: [*held[name], held[name][-1]] for name in ("lr_factor", "momentum")}
    change(run / "schedule.json", steps=5, **rates)
    change(run / "result.json", steps=5)


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
    "fewer bytes of code": (lambda run: change(run / "result.json", code_bytes=3), "V10", "train_gpt.py: has 4 bytes"),
    "other code": (lambda run: (run / "train_gpt.py").write_text("c0de"), "code", "train_gpt.py: has SHA-256"),
    "less gained": (lambda run: change(run / "result.json", bpb_without_ttt=9.0), "result", "is 9.0, the metrics have"),
    "another tokenizer": (another_tokenizer, "V6", "is not the tokenizer that the run's data are made with"),
    "fewer tokens": (fewer_tokens, "V8", "are not those of the run's data"),
    "a GPU": (gpu, "result", "which runs on a CPU"),
    "other weights": (other_weights, "ledger", "were scored by weights 0000000000000000"),
    "weights adapted elsewhere": (adapt_again, "settings", "and the weights adapted to other tokens"),
    "an end of fewer targets": (
        lambda run: each(run, lambda event: event | {"targets": 480 - 32 * ("legal" in event)}),
        "ledger",
        "targets is 448, its records make it 480",
    ),
    "an end that breaks a rule": (
        lambda run: each(run, lambda event: event | ({"violations": ["V1"]} if "legal" in event else {})),
        "ledger",
        "violations is ['V1'], its records make it []",
    ),
    "nothing is left open": (lambda run: change(run / "result.json", not_judged=[]), "result", "does not have: split:"),
    "gained more": (gained_more, "result", "is 6.0, token_losses_before makes it"),
    "gained more by its losses": (gained_more_by_losses, "losses", "token_losses_before: target"),
    "fewer losses before": (fewer_losses_before, "losses", "holds 471 losses"),
    "other documents": (
        lambda run: of_documents(run, lambda held: held["starts"].__setitem__(1, held["starts"][1] + 5)),
        "result",
        "documents.json starts: is not that",
    ),
    "documents of more bytes": (
        lambda run: of_documents(run, lambda held: held["bytes"].__setitem__(0, 999)),
        "result",
        "documents.json bytes: is not that",
    ),
    "documents of another text": (
        lambda run: of_documents(run, lambda held: held["shown"].__setitem__("0", ["x"])),
        "result",
        "is not the text of document 0",
    ),
    "documents of other hashes": (
        lambda run: of_documents(run, lambda held: held["texts"].__setitem__(0, "0" * 16)),
        "result",
        "documents.json texts: is not that of the text",
    ),
    "no documents": (lambda run: (run / "documents.json").write_text("{"), "result", "documents.json: "),
    "more tokens a second": (
        lambda run: change(run / "result.json", tokens_per_second=1e7),
        "result",
        "tokens_per_second: is 1e+07, 4 steps in",
    ),
    "less training by the metrics too": (trained_less, "settings", "the last that the metrics have is 1"),
    "more steps than were asked for": (more_steps, "settings", "has 5 steps, train.max_steps is 4"),
    "no number format": (lambda run: change(run / "result.json", compute_dtype="int8"), "result", "is int8, which no"),
    "no time of evaluating": (
        lambda run: change(run / "result.json", eval_seconds=None),
        "result",
        "does not have: V11: no record says how long the evaluation took",
    ),
    "a GPU with the torch of one": (gpu_of_torch, "result", "ran in C++, which a CPU does"),
    "fewer steps": (lambda run: change(run / "result.json", steps=3), "settings", "has 4 steps, the result 3"),
}


LATE = ("other weights", "gained more by its losses")
"""Forgeries that show where something was learned."""


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_found_and_named(run: Path, forgery: str) -> None:
    forge, check, said = FORGERIES[forgery]
    forge(run)
    if "has SHA-256" not in said or "train_gpt" in said:
        rehash(run)
    found = judged(run, targets=470 if forgery in LATE else 32)
    assert check in found.flagged
    assert any(said in finding.said for finding in found.of(check) if finding.outcome == "flag"), found.lines()
