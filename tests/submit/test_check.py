"""A record folder against what it says of itself: ours, damaged ones, and one as strangers make them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from golf_fast.audit.__main__ import main as audit
from golf_fast.console import exit_with
from golf_fast.submit import check as module
from golf_fast.submit.__main__ import main
from golf_fast.submit.check import check
from golf_fast.submit.folder import Author, write
from golf_fast.submit.record import Candidate


@pytest.fixture
def folder(candidates: list[Candidate], tmp_path: Path) -> Path:
    return write(candidates, tmp_path, "ours", "2026-04-27", Author("A", "a"), record=False)


def flags(folder: Path) -> set[str]:
    return {finding.check for finding in check(folder) if finding.outcome == "flag"}


def said(folder: Path, **changes: Any) -> None:
    path = folder / "submission.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_written_is_found_right(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    found = check(folder)
    assert {finding.outcome for finding in found} == {"pass"}
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "another artifact": ("size", lambda f: (f / "artifact.golf").write_bytes(b"x")),
    "a bit of the artifact": (
        "artifact",
        lambda f: (f / "artifact.golf").write_bytes((f / "artifact.golf").read_bytes()[:-1] + b"\0"),
    ),
    "another script": ("code", lambda f: (f / "train_gpt.py").write_bytes((f / "train_gpt.py").read_bytes() + b"\n")),
    "no readme": ("files", lambda f: (f / "README.md").unlink()),
    "no logs": ("files", lambda f: [path.unlink() for path in f.glob("*.log")]),
    "another score of a seed": (
        "scores",
        lambda f: (f / "train_seed7.log").write_text("val_bpb:9.1234 val_loss:1\n"),
    ),
    "another mean": ("scores", lambda f: said(f, val_bpb=1.0)),
    "another total": ("size", lambda f: said(f, bytes_total=5)),
    "no author": ("schema", lambda f: said(f, author="")),
    "a long training": ("time", lambda f: (f / "train_seed7.log").open("a").write("train_time:600001ms\n")),
    "a size over the limit": ("size", lambda f: said(f, record=True, bytes_total_max=16_000_001)),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_what_was_changed_is_flagged(folder: Path, damage: str) -> None:
    expected, change = DAMAGES[damage]
    change(folder)
    assert expected in flags(folder)


STRANGER = {
    "author": "B",
    "github_id": "b",
    "name": "theirs",
    "date": "2026-03-19T10:00:00Z",
    "val_loss": 2.0,
    "val_bpb": 1.1929,
    "bytes_total": 15_882_446,
    "bytes_code": 8,
}


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    folder = tmp_path / "2026-03-19_theirs"
    folder.mkdir()
    (folder / "README.md").write_text("# theirs\n")
    (folder / "train_gpt.py").write_text("print()\n")
    (folder / "submission.json").write_text(json.dumps(STRANGER))
    (folder / "train.log").write_text("Code size: 8 bytes\ntrain_time:599000ms\nfinal val_bpb:1.19285\n")
    return folder


def test_a_strangers_folder_is_checked_by_what_it_has(stranger: Path) -> None:
    assert flags(stranger) == set()
    (stranger / "train.log").write_text("Code size: 8 bytes\ntrain_time:601000ms\nfinal val_bpb:1.2\n")
    assert flags(stranger) == {"time", "scores"}
    (stranger / "train.log").write_text("Code size: 9 bytes\nfinal val_bpb:1.1929\n")
    (stranger / "train_seed2.log").write_text("Code size: 10 bytes\nfinal val_bpb:1.1929\n")
    said(stranger, bytes_total=16_000_001, bytes_code=7)
    assert flags(stranger) == {"size", "code", "code size"}


def test_a_strangers_script_is_judged(stranger: Path) -> None:
    scripts = Path(__file__).parents[1] / "audit" / "scripts"
    (stranger / "train_gpt.py").write_bytes((scripts / "illegal_inlined_epochs_sgd.py").read_bytes())
    assert "script" in flags(stranger)


def test_what_is_packed_in_a_built_file_is_judged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = Path(__file__).parents[1] / "audit" / "scripts"
    for name, code in (("illegal_inlined_epochs_sgd.py", 1), ("legal_baseline.py", 0)):
        monkeypatch.setattr(module, "packed", lambda content, name=name: {"x.py": (scripts / name).read_text()})
        assert ("script" in flags(folder)) == bool(code)
        monkeypatch.setattr(sys, "argv", ["audit", str(folder / "train_gpt.py")])
        with pytest.raises(SystemExit) as stop:
            exit_with(audit)
        assert stop.value.code == code
        size = (folder / "train_gpt.py").stat().st_size
        assert f"{size:,} bytes of code, wrapped in a built file of golf_fast" in capsys.readouterr().out


def test_the_exit_code_tells(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def code(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["submit", *arguments])
        with pytest.raises(SystemExit) as stop:
            exit_with(main)
        return stop.value.code

    assert code("check", str(folder)) == 0
    assert "nothing was flagged" in capsys.readouterr().out
    (folder / "README.md").unlink()
    assert code("check", str(folder), "--json") == 1
    assert json.loads(capsys.readouterr().out)["flagged"] == ["files"]
    assert code("check", str(folder / "nothing")) == 2
    assert "is no folder" in capsys.readouterr().err
