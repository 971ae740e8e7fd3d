"""What is in the artifact, the tokenizer and the data, where every file agrees with the others."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.audited_run import change, judged, ledger_of, of_stage, rehash, setting, write_ledger

from golf_fast.audit.run import totals
from golf_fast.compress import read_artifact, write_artifact
from golf_fast.config import DataConfig
from golf_fast.data import prepare, read_shard, write_shard


def test_an_artifact_with_a_tensor_that_no_model_has_is_flagged(run: Path) -> None:
    """It could hold anything, such as the text that is scored."""
    path = run / "artifact.golf"
    artifact = read_artifact(path)
    tensors = dict(artifact.tensors)
    tensors["hidden.weight"] = tensors["bigram.embed.weight"]
    size = write_artifact(path, tensors, artifact.model_config, notes={"quantizer": "gptq_trellis"})
    code = json.loads((run / "result.json").read_text())["code_bytes"]
    change(run / "result.json", artifact_bytes=size, artifact_parts={}, total_bytes=size + code)
    rehash(run)
    said = [finding.said for finding in judged(run, targets=32).of("artifact") if finding.outcome == "flag"]
    assert any("makes no model" in text and "hidden.weight" in text for text in said), said


def test_training_shards_that_have_the_validation_text_are_found(run: Path, tmp_path: Path) -> None:
    """Whatever the run says of its data, and of the rules."""
    (name,) = json.loads((run / "result.json").read_text())["validation_shards"]
    leaking = shutil.copytree(Path(name).parent, tmp_path / "leaking")
    (leaking / "manifest.json").unlink()  # it has the hashes
    val = leaking / Path(name).name
    (train,) = leaking.glob("*train*.bin")
    write_shard(train, np.concatenate([read_shard(train), read_shard(val)]))
    shutil.copy(run / "tokenizer.model", tmp_path / "tokenizer.model")
    data = {"source": "shards", "shards": leaking, "tokenizer": tmp_path / "tokenizer.model"}
    fingerprint = prepare(DataConfig(**data), 300, False).fingerprint
    setting(run, "data", text=None, **{key: str(value) for key, value in data.items()})
    digest = hashlib.sha256(val.read_bytes()).hexdigest()
    change(run / "result.json", data_fingerprint=fingerprint, validation_shards={str(val): digest})
    rehash(run)
    found = judged(run, targets=32)
    assert {"V1", "result"} <= set(found.flagged), found.lines()


def test_a_variant_s_targets_stand_for_a_known_number_of_bytes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = json.loads((run / "result.json").read_text())["validation_shards"]
    folder = shutil.copytree(Path(name).parent, tmp_path / "fineweb10B_sp1024")
    monkeypatch.setitem(totals.VALIDATION_TARGETS, "sp1024", 480)
    for size, flagged in ((548, False), (547, True)):
        monkeypatch.setitem(totals.VALIDATION_BYTES, "sp1024", size)
        assert ("V6" in judged(run, folder, targets=32).flagged) is flagged


def test_cuts_for_a_time_that_was_not_short_are_left_open(run: Path) -> None:
    """Who chose them by the losses would have such a ledger."""
    setting(run, "score", max_seconds=100.0)
    events = ledger_of(run)
    events[0]["max_seconds"] = 100.0
    events.insert(2, {"event": "limit", "what": "epochs", "place": 0, "done": 1, "planned": 2})
    write_ledger(run, events)
    for seconds, left_open in ((90.0, False), (5.0, True)):
        change(run / "result.json", eval_seconds=seconds)
        of_stage(run, "score while adapting", seconds=seconds + 1)
        rehash(run)
        said = [finding.said for finding in judged(run, targets=32).of("V5") if finding.outcome == "unknown"]
        assert any("cut short 1 times for a limit of 100 s" in text for text in said) is left_open
