"""Only runs that say something of a recipe as it is get on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.results import result

from benchmarks import recipes
from golf_fast.code_size import Code
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES
from golf_fast.recipes.measured import newest, read, settings_hash
from golf_fast.runs import FinishedRun


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> Code:
    """In place of a built file, which takes seconds."""
    made = Code(b"code")
    monkeypatch.setattr(recipes, "code", lambda config: made)
    return made


def leave(folder: Path, code: Code, seed: int, **changed: object) -> Path:
    folder.mkdir()
    config = replace(RECIPES["tiny"](), seed=seed, run_id=folder.name, runs_dir=folder.parent)
    (folder / "config.json").write_text(json.dumps({"config": config.as_dict(), "origins": {}}))
    shards = {"data/built/embedded-2048/val_000000.bin": "0"}
    made = replace(result(seed, 1.5, 1.6), code_hash=code.hash, validation_shards=shards)
    replace(made, **changed).write(folder / "result.json")
    return folder


def test_a_finished_run_gets_on_record_once(code: Code, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "measured.jsonl"
    runs = [leave(tmp_path / f"run{seed}", code, seed) for seed in (1, 2)]
    recipes.main([str(runs[0]), "--record", str(record)])
    recipes.main([*map(str, runs), "--record", str(record)])
    assert "1 of 2 runs added, the others are there" in capsys.readouterr().out
    held = read(record)
    assert [(each.seed, each.bpb, each.data) for each in held] == [(1, 1.5, "embedded-2048"), (2, 1.5, "embedded-2048")]
    assert held[0].command == "python -m golf_fast.train tiny --seed=1"
    assert held[0].cpu
    assert held[0].commit
    group = newest(held, "tiny", settings_hash(RECIPES["tiny"]()))
    assert group is not None
    assert (group.bpb.mean, group.bpb.half_width, group.total_bytes) == (1.5, 0.0, 1100)


def test_another_run_is_refused_and_the_record_stays(code: Code, tmp_path: Path) -> None:
    record = tmp_path / "measured.jsonl"
    folder = leave(tmp_path / "run", code, 1)
    changed = json.loads((folder / "config.json").read_text())
    changed["config"]["train"]["max_steps"] = 4
    for seed, (change, says) in enumerate(
        [({"finished": False}, "has not finished"), ({"code_hash": "other"}, "was made by other code than this")]
    ):
        wrong = leave(tmp_path / f"wrong{seed}", code, 1, **change)
        with pytest.raises(InputError, match=says):
            recipes.main([str(folder), str(wrong), "--record", str(record)])
    (folder / "config.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"run: is tiny with other settings \(train\.max_steps = 4\)"):
        recipes.measured(FinishedRun(folder))
    assert not record.exists()
