"""A run directory as a run leaves it, with numbers that somebody can check, and no run behind it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from golf_fast.report import RunLog
from golf_fast.runs import Result, RunPaths
from golf_fast.runs.documents import Documents
from golf_fast.runs.schedule import RecordedSchedule

TARGETS = 6000
STARTS = [0, 100, 2000, 4500]
SIZES = [300, 5000, 6000, 4000]
TEXTS = ("a", "b", "c", "d")
"""In place of the hashes of the documents."""
PIECES = [" the", "\n", "</span><script>", "é", "<0xE2>", ""]

RESULT = Result(
    run_id="run <1>",
    recipe="tiny",
    seed=1,
    params=1234567,
    steps=40,
    train_seconds=4.0,
    tokens_per_second=1e5,
    val_loss=2.0,
    val_bpb=1.23456,
    val_tokens=TARGETS,
    val_bytes=sum(SIZES),
    bpb_before_compression=1.5,
    bpb_without_ttt=1.3,
    artifact_bytes=900,
    code_bytes=100,
    track="B",
    violations=[],
    eval_seconds=2.0,
    device="cpu",
    world_size=1,
    versions={"torch": "2"},
    data_fingerprint="<script>alert(1)</script>",
    backends={"relu2_mlp": {"name": "reference", "reason": "no <b>GPU</b> & no more"}},
    compute_dtype="float32",
    recompiles=0,
    peak_memory_bytes=1,
    finished=True,
    artifact_parts={"tok_emb": 700, "a & <b> $x$": 200},
    baselines={"zstd-22": 2.25},
)


def leave(run_dir: Path, result: Result = RESULT) -> Path:
    """Everything that a run can leave but its weights: every plot of its page has something to show."""
    paths = RunPaths(run_dir)
    settings = {
        "recipe": "tiny",
        "train": {"matrix_lr": 0.02, "tied_embed_lr": 0.03, "scalar_lr": 0.02, "note": "<i>"},
        "model": {"tied_embeddings": True},
        "data": {"text": None},
    }
    origins = {"recipe": "recipe", "train.matrix_lr": "environment SEED", "train.note": "command line"}
    with RunLog(run_dir, main=True) as log:
        for step in range(1, 41):
            loss = float("nan") if step == 7 else 5.0 - step / 20
            log.metric(kind="step", step=step, loss=loss)
            log.metric(kind="train", step=step, seconds=step / 10, loss=loss, lr_factor=1 - step / 40, momentum=0.9)
        log.metric(kind="val", step=20, seconds=2.0, loss=4.5, bpb=2.5)
        log.metric(kind="stage", name="compress <all>", seconds=1.25, bytes=15913048, bpb=None)
        for layer in range(3):
            for name in ("attn.c_q", "mlp.fc"):
                values = {"elements": 64, "bits": 4.0 + layer, "error": 0.01, "output_error": 0.01, "bpb_change": 0.1}
                log.metric(kind="tensor", name=f"blocks.{layer}.{name}.weight", form="int6", **values)
        for start in range(0, TARGETS, 600):
            log.metric(kind="gain", start=start, stop=start + 600, fixed=3.0, adapting=2.5 + start / 60000)
    paths.config.write_text(json.dumps({"config": settings, "origins": origins}))
    paths.schedule.write_text("{}")
    RecordedSchedule(40, [1 - step / 40 for step in range(40)], [0.9] * 40).write(paths.schedule)
    after = np.linspace(4, 2, TARGETS, dtype="<f4")
    after.tofile(paths.token_losses)
    (after + np.float32(0.25)).tofile(paths.token_losses_before)
    digest = hashlib.sha256(b"tokens").hexdigest()
    Documents(digest, TARGETS, STARTS, SIZES, {"1": PIECES, "3": PIECES}, TEXTS).write(paths.documents)
    check = {"check": "V1", "outcome": "pass", "findings": [{"where": "ledger.jsonl", "text": "<all> in order"}]}
    paths.audit.write_text(json.dumps({"flagged": [], "checks": [check]}))
    result.write(paths.result)
    return run_dir
