"""The program: a table, a recipe in full, JSON, and a wrong name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers.recipes import measured_run

from golf_fast.console import exit_with
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES, measured
from golf_fast.recipes.__main__ import main
from golf_fast.recipes.measured import Group, difference, newest, settings_hash

SETTINGS = settings_hash(RECIPES["tiny"]())
RUNS = [
    measured_run(1, 1.5, time="2026-01-02", settings=SETTINGS),
    measured_run(2, 1.7, time="2026-01-02", settings=SETTINGS),
    measured_run(2, 1.6, time="2026-01-03", settings=SETTINGS),
    measured_run(3, 1.1, time="2026-01-01", settings=SETTINGS, commit="before"),
    measured_run(4, 1.2, time="2026-01-04", settings="another"),
    measured_run(2, 1.5, recipe="tiny_top", settings=settings_hash(RECIPES["tiny_top"]())),
]


@pytest.fixture(autouse=True)
def _record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "measured.jsonl"
    path.write_text("".join(json.dumps(asdict(run)) + "\n" for run in RUNS))
    monkeypatch.setattr(measured.read, "__defaults__", (path,))


def program(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["recipes", *arguments])
    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    return int(stop.value.code or 0)


def test_the_table_has_a_line_for_each(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[2 : 2 + len(RECIPES)]]
    assert [row[0] for row in rows] == list(RECIPES)
    assert rows[0][1:] == ["2,211,418", "best", "1.5500", "+-", "0.6353", "1,100", "-"]
    assert lines[2 + list(RECIPES).index("seed_as_published")].endswith("1.1574 (not legal)")
    assert "  against tiny (-0.1000 bits per byte): model: heads, kv_heads, " in "\n".join(lines)


def test_a_recipe_in_full(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(monkeypatch, "tiny") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "measured: 1.5500 +- 0.6353 bits per byte of embedded-2048; seeds 1, 2; 1.8000 without adapting;" in said
    assert "model.dim 512 192" in said
    assert "commit abc1234; python -m golf_fast.train tiny --seed=1" in said
    assert program(monkeypatch, "top_1855") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no run of it as it is now is on record" in said
    assert "published: 1.06108 bits per byte of FineWeb (#1855;" in said
    assert "data fetch --variant sp8192_caseops torchrun" in said


def test_what_a_recipe_gained_is_paired_by_seed() -> None:
    ours = Group((measured_run(1, 1.4, data="embedded-2048-x"), measured_run(2, 1.4), measured_run(3, 9.0)))
    theirs = Group((measured_run(1, 1.5), measured_run(2, 1.7)))
    gained = difference(ours, theirs)
    assert gained is not None
    assert gained.mean == pytest.approx(-0.2)
    for other in ({"cpu": "another"}, {"data": "fineweb10B_sp1024"}, {"versions": {"python": "3.12"}}, {"seed": 9}):
        assert difference(ours, Group((replace(measured_run(1, 1.5), **other),))) is None
    assert difference(ours, None) is None


def test_json_is_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(monkeypatch, "--json") == 0
    held = json.loads(capsys.readouterr().out)
    assert [each["recipe"] for each in held] == list(RECIPES)
    assert [run["bpb"] for run in held[0]["measured"]] == [1.5, 1.6]
    assert program(monkeypatch, "--json", "best") == 0
    best = json.loads(capsys.readouterr().out)
    assert best["built_on"] == "seed"
    assert best["changes"]["compress.fp16_keep"] == {"there": ["tok_emb", "blocks.8.attn.c_k"], "here": []}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["tinytop"], "tinytop: no such recipe; did you mean tiny_top? There are tiny, "), (["tiny", "best"], "best")],
)
def test_a_wrong_name_is_one_line(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(monkeypatch, *arguments) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert says in said.err


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "measured.jsonl"
    path.write_text('{"recipe": "tiny"}\n')
    with pytest.raises(InputError, match=r"measured\.jsonl: line 1: has no settings"):
        measured.read(path)
    assert measured.read(tmp_path / "none") == []
    assert newest([], "tiny", SETTINGS) is None


def test_the_committed_record_can_be_read() -> None:
    for run in measured.read(measured.PATH):
        assert run.recipe in RECIPES


def test_the_program_loads_no_torch() -> None:
    program = "import sys; sys.argv[1:] = ['--json'];from golf_fast.recipes.__main__ import main; main();"
    done = subprocess.run(
        [sys.executable, "-c", program + "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
