"""What speaks against a record, one reason after the other, and the folder that is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from golf_fast.audit.run.finding import flagged, passed
from golf_fast.audit.run.judge import Audit
from golf_fast.audit.run.replay import Sample
from golf_fast.errors import InputError
from golf_fast.runs import Result
from golf_fast.score.verdict import Verdict
from golf_fast.submit import schema
from golf_fast.submit.folder import Author, write
from golf_fast.submit.record import Candidate, against, examine, require_different

AUTHOR = Author("A Person", "aperson", "what it is")
LEGAL = Verdict([], [], "B", "stream")


def ranked(candidate: Candidate, **changes: Any) -> Candidate:
    """The same as if it had run on the machine and the data of the challenge, and nothing was found."""
    fields = {"device": "NVIDIA H100 80GB HBM3", "world_size": 8}
    result: Result = replace(candidate.result, **fields)
    audit = Audit(candidate.audit.run, LEGAL, [passed("V1", "")])
    return replace(replace(candidate, result=result, audit=audit), **changes)


@pytest.fixture
def pair(candidates: list[Candidate]) -> list[Candidate]:
    return [ranked(candidate) for candidate in candidates]


def test_nothing_speaks_against_runs_on_the_right_machine(pair: list[Candidate]) -> None:
    assert against(pair) == []


def test_real_runs_on_a_cpu_are_no_record(candidates: list[Candidate]) -> None:
    reasons = " / ".join(against(candidates))
    assert "a record is made on 8xH100" in reasons
    assert "no variant of the challenge's data" in reasons
    assert all(candidate.audit.flagged == [] for candidate in candidates)


CASES = {
    "V10: .* bytes": lambda c: {"artifact_bytes": 16_000_001 - len(c.code)},
    "V1: .*ledger line 3": lambda c: {
        "audit": Audit(c.run.paths.folder, LEGAL, [flagged("V1", "trained", "ledger line 3")])
    },
    "V11": lambda c: {"audit": replace(c.audit, verdict=Verdict(["V11"], [], "B", "stream"))},
    "V8|split": lambda c: {"audit": replace(c.audit, verdict=Verdict([], ["split: no variant"], "B", "stream"))},
    "V9, V11: training had no limit": lambda c: {
        "audit": replace(c.audit, verdict=Verdict([], ["V9, V11: training had no limit of time"], "B", "stream"))
    },
    "its ledger cannot be judged": lambda c: {"audit": replace(c.audit, verdict=None)},
    "V14: the runs have different code": lambda c: {"code": c.code + b"\n"},
    "is not the code that the run counted": lambda c: {"code": c.code + b"\n"},
    "a record is made on 8xH100": lambda c: {"result": replace(c.result, world_size=4)},
    "the runs had different data": lambda c: {"result": replace(c.result, data_fingerprint="0" * 64)},
    "seed 42 stands twice": lambda c: {"config": replace(c.config, seed=42)},
}  # fmt: skip


@pytest.mark.parametrize("reason", sorted(CASES))
def test_each_reason_is_refused_by_itself(pair: list[Candidate], tmp_path: Path, reason: str) -> None:
    changed = [pair[0], replace(pair[1], **CASES[reason](pair[1]))]
    with pytest.raises(InputError, match=f"no record: .*{reason}"):
        write(changed, tmp_path / "records", "name", "2026-04-27", AUTHOR)
    assert not (tmp_path / "records").exists()
    written = write(changed, tmp_path, "name", "2026-04-27", AUTHOR, record=False)
    said = json.loads((written / schema.SUBMISSION).read_text())
    assert (said["record"], said["track"]) == (False, "non_record_16mb")
    assert said["not_a_record_because"]
    assert "**Not a record:**" in (written / schema.README).read_text()


def test_one_run_is_not_two_seeds(pair: list[Candidate]) -> None:
    copied = replace(pair[1], artifact_sha256=pair[0].artifact_sha256)
    assert against([pair[0], copied]) == ["two runs have one artifact: each seed needs a run of its own"]
    hashes = pair[1].result.file_hashes | {"token_losses": pair[0].result.file_hashes["token_losses"]}
    written_again = replace(pair[1], result=replace(pair[1].result, file_hashes=hashes))
    assert against([pair[0], written_again]) == ["two runs have the same losses: each seed needs a run of its own"]


def test_a_run_or_a_seed_that_is_named_twice_is_refused(runs: list[Path], tmp_path: Path) -> None:
    require_different(runs)
    with pytest.raises(InputError, match="is named twice"):
        require_different([*runs, runs[0] / ".." / runs[0].name])
    shutil.copytree(runs[0], tmp_path / "copy")
    with pytest.raises(InputError, match="has seed 42, as "):
        require_different([*runs, tmp_path / "copy"])


def test_a_size_at_the_limit_fits(pair: list[Candidate]) -> None:
    first = replace(pair[0], artifact_bytes=16_000_000 - len(pair[0].code))
    assert against([first, pair[1]]) == []


def test_the_folder_has_what_a_record_needs(pair: list[Candidate], tmp_path: Path) -> None:
    folder = write(pair, tmp_path, "10L_int5", "2026-04-27", AUTHOR)
    assert folder == tmp_path / "2026-04-27_10L_int5"
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "artifact.golf", "requirements.txt", "submission.json", "train_gpt.py",
        "train_seed42.log", "train_seed7.log",
    }  # fmt: skip
    said = schema.parse(json.loads((folder / schema.SUBMISSION).read_text()), "it")
    assert isinstance(said, schema.Submission)
    assert said.val_bpb == pytest.approx(sum(candidate.bpb for candidate in pair) / 2)
    assert said.bytes_total == said.bytes_code + said.bytes_model
    assert said.bytes_code == (folder / schema.SCRIPT).stat().st_size == len(pair[0].code)
    assert said.bytes_model == (folder / schema.ARTIFACT).stat().st_size
    assert (said.record, said.not_a_record_because, said.track) == (True, [], "10min_16mb")
    readme = (folder / schema.README).read_text()
    assert "| 42 |" in readme
    assert "| 7 |" in readme
    assert "matrix_lr" in readme
    assert "Not a record" not in readme
    assert (folder / "train_seed7.log").read_bytes() == pair[1].run.paths.log.read_bytes()


def test_a_folder_that_is_there_stays(pair: list[Candidate], tmp_path: Path) -> None:
    write(pair, tmp_path, "x", "2026-04-27", AUTHOR)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="is there already"):
        write(pair, tmp_path, "x", "2026-04-27", AUTHOR)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_left_where_writing_fails(
    pair: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        write(pair, tmp_path, "x", "2026-04-27", AUTHOR)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", ".hidden"])
def test_a_name_that_makes_no_folder_is_refused(pair: list[Candidate], tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        write(pair, tmp_path, name, "2026-04-27", AUTHOR)


def test_a_run_that_did_not_finish_has_no_record(runs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(runs[0], folder)
    held = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(held | {"finished": False}))
    with pytest.raises(InputError, match="did not finish"):
        examine(folder, Sample(targets=64), torch.device("cpu"))
    (folder / "train_gpt.py").unlink()
    (folder / "result.json").write_text(json.dumps(held))
    with pytest.raises(InputError, match="the code that the run would ship"):
        examine(folder, Sample(targets=64), torch.device("cpu"))


def test_a_flag_in_the_result_is_not_believed(runs: list[Path], tmp_path: Path) -> None:
    """A ledger in which a token is learned before it is scored is illegal, whatever the result says."""
    folder = tmp_path / "forged"
    shutil.copytree(runs[0], folder)
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    learned = next(k for k, line in enumerate(lines) if '"train"' in line)
    lines.insert(1, lines.pop(learned))
    (folder / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    assert json.loads((folder / "result.json").read_text())["violations"] == []
    candidate = examine(folder, Sample(targets=64), torch.device("cpu"))
    assert "V1" in " ".join(against([candidate]))


def test_the_schema_is_written_and_holds(candidates: list[Candidate], tmp_path: Path) -> None:
    folder = write(candidates, tmp_path, "x", "2026-04-27", AUTHOR, record=False)
    said = json.loads((folder / schema.SUBMISSION).read_text())
    written = msgspec.json.schema(schema.Submission)["$defs"]["Submission"]
    assert set(written["properties"]) == set(said)
    assert set(written["required"]) == set(said)
    for field in said:
        with pytest.raises(InputError, match=r"submission\.json"):
            schema.parse({**said, field: {"not": 1}}, "submission.json")
    with pytest.raises(InputError, match="unknown field"):
        schema.parse({**said, "more": 1}, "submission.json")
    assert msgspec.to_builtins(schema.parse(said, "it")) == said
