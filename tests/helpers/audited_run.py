"""A small run that is audited, and changes to what it left behind."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bare_run import leave_out_the_rest

from golf_fast.audit.run.judge import Audit, audit
from golf_fast.audit.run.replay import Sample
from golf_fast.console import exit_with
from golf_fast.train.__main__ import main as train_main

EARLIER = Path(__file__).parents[1] / "runs" / "earlier"
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
    """A bare run: no audit here reads its pages or its code."""
    flags = [f"--data.text={EARLIER / 'text.jsonl'}", f"--data.built={folder / 'built'}", f"--runs-dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", *SMALL, *flags, *more])
        leave_out_the_rest(patch.setattr)
        with pytest.raises(SystemExit) as stop:
            exit_with(train_main, prints=False)
    assert stop.value.code == 0
    return folder / "run"


def judged(run: Path, data: Path | None = None, **sample: Any) -> Audit:
    return audit(run, Sample(**{"seed": 0} | sample), torch.device("cpu"), data, CODE)


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def ledger_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]


def write_ledger(run: Path, events: list[dict[str, Any]]) -> None:
    (run / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def score_again(run: Path) -> None:
    events = ledger_of(run)
    write_ledger(run, [*events[:2], events[1], *events[2:]])


def budget(run: Path, **fields: float) -> None:
    held = json.loads((run / "schedule.json").read_text())
    change(run / "schedule.json", budget=held["budget"] | fields)


def setting(run: Path, stage: str, **fields: Any) -> None:
    held = json.loads((run / "config.json").read_text())
    held["config"][stage] |= fields
    (run / "config.json").write_text(json.dumps(held))


def rehash(run: Path) -> None:
    """The result names the files as they are now."""
    names = json.loads((run / "result.json").read_text())["file_hashes"]
    hashes = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}
    change(run / "result.json", file_hashes=hashes)


def each(run: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    write_ledger(run, [edit(event) for event in ledger_of(run)])


def metrics(run: Path, edit: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    records = [edit(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records if record))


def of_stage(run: Path, name: str, **fields: Any) -> None:
    metrics(run, lambda record: record | fields if record.get("name") == name else record)
