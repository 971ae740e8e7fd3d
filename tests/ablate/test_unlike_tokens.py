"""Variants with another tokenizer, over the text that both scored alike."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.left_behind import RESULT, SIZES, STARTS, TARGETS, TEXTS, leave

from golf_fast.ablate import findings, unlike_tokens
from golf_fast.ablate.runs import Outcome
from golf_fast.ablate.variants import WHOLE
from golf_fast.runs import RunPaths


def outcome(folder: Path, variant: str, seed: int, worse: float, **change: Any) -> Outcome:
    """A run that is worse by so many nats a token than a straight line of losses; changed as its documents say."""
    result = replace(RESULT, seed=seed, val_tokens=change.get("targets", TARGETS))
    run = RunPaths(leave(folder / f"{variant}-{seed}", result))
    run.documents.write_text(json.dumps(json.loads(run.documents.read_text()) | {"shown": {}} | change))
    np.repeat((np.linspace(4, 2, TARGETS) + worse) / result.val_tokens * TARGETS, result.val_tokens // TARGETS).astype(
        "<f4"
    ).tofile(run.token_losses)
    return Outcome(variant, seed, result, folder=run.folder)


TWICE = {
    "tokens_sha256": "0",
    "targets": 2 * TARGETS,
    "starts": [2 * start for start in STARTS],
    "bytes": [*SIZES[:3], 3990],
    "texts": [*TEXTS[:3], "cut"],
}


def test_what_other_tokens_are_worth_is_told_over_the_same_text(tmp_path: Path) -> None:
    """Worse by 0.5 and 0.7 nats in each of 4,500 tokens of the first three documents, which have 11,300 bytes."""
    outcomes = [outcome(tmp_path, WHOLE, seed, 0.0) for seed in (1, 2)]
    outcomes += [outcome(tmp_path, "case_ops", seed, worse, **TWICE) for seed, worse in ((1, 0.5), (2, 0.7))]
    outcomes.append(outcome(tmp_path, "ema", 1, 0.3))
    found, refused = unlike_tokens.compared(findings.findings(outcomes), outcomes)
    assert refused == []
    by_name = {each.name: each for each in found}
    assert by_name[WHOLE].over_shared is None
    assert by_name["ema"].over_shared is None
    over = by_name["case_ops"].over_shared
    assert over is not None
    assert over.worse_by.mean == pytest.approx(0.6 * STARTS[3] / 11_300 / math.log(2), rel=1e-5)
    assert over.worse_by.half_width == pytest.approx(12.7062 * 0.1 * STARTS[3] / 11_300 / math.log(2), rel=1e-4)
    (note,) = [note for note in findings.notes(found) if "alike" in note]
    assert note.startswith(
        "case_ops: over 3 of 4 documents, which both scored alike, 11,300 bytes, it is worse by +0.34"
    )
    findings.write(found, "a title", {}, tmp_path)
    held = json.loads((tmp_path / "ablation.json").read_text())
    told = {each["variant"]: each["over_shared_documents"] for each in held["findings"]}
    assert told["ema"] is None
    assert (told["case_ops"]["documents"], told["case_ops"]["bytes"]) == (3, 11_300)
    assert told["case_ops"]["worse_by"] == over.worse_by.mean


def test_a_variant_of_another_text_is_left_out_with_a_line(tmp_path: Path) -> None:
    outcomes = [outcome(tmp_path, WHOLE, 1, 0.0), outcome(tmp_path, "other", 1, 0.1, **TWICE | {"texts": list("wxyz")})]
    found, refused = unlike_tokens.compared(findings.findings(outcomes), outcomes)
    assert [each.name for each in found] == [WHOLE]
    assert refused == [
        "other: was scored on another text than whole, as far as is known: 0 of 3 documents are the same by their text"
        " and bytes as recorded; only scores of the same text can be compared; it is left out of the table"
    ]
    findings.write(found, "a title", {}, tmp_path, refused)
    assert refused[0] in (tmp_path / "ablation.md").read_text()


def test_runs_without_documents_stay_as_they_are(tmp_path: Path) -> None:
    outcomes = [outcome(tmp_path, WHOLE, 1, 0.0), outcome(tmp_path, "case_ops", 1, 0.1, **TWICE)]
    made = findings.findings(outcomes)
    for path in (RunPaths(tmp_path / "case_ops-1").documents, RunPaths(tmp_path / f"{WHOLE}-1").documents):
        path.write_text("{")
        assert unlike_tokens.compared(made, outcomes) == (made, [])
        path.unlink()
        assert unlike_tokens.compared(made, outcomes) == (made, [])
