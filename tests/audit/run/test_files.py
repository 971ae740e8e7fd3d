"""Files that are missing, no files, damaged or another's end no audit, and none is passed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.audited_run import judged

from golf_fast.data import read_shard, write_shard
from golf_fast.errors import InputError


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


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        judged(tmp_path)
