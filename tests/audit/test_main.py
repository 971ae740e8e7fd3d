"""`python -m golf_fast.audit`: exit codes, and the same verdict for people and for programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from golf_fast.audit.__main__ import main
from golf_fast.errors import InputError

FOLDER = Path(__file__).parent / "scripts"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["audit", *map(str, arguments)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_flagged_script_exits_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, FOLDER / "illegal_function_adamw.py") == 1
    said = capsys.readouterr().out
    assert "V1  flag" in said
    assert said.endswith("flagged: V1\n")


def test_a_legal_script_exits_with_0_and_the_json_has_every_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FOLDER / "legal_score_first.py"
    assert run(monkeypatch, path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["script"] == str(path)
    assert found["code_bytes"] == path.stat().st_size
    assert found["flagged"] == []
    assert [finding["rule"] for finding in found["findings"]] == [f"V{number}" for number in range(1, 15)]
    assert {finding["outcome"] for finding in found["findings"]} <= {"pass", "flag", "unknown"}
    assert found["smoke"] is None


def test_what_is_no_script_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"a folder without result\.json"):
        run(monkeypatch, tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        run(monkeypatch, tmp_path / "nothing.py")


def test_wrong_input_exits_with_2_from_the_shell(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("def f(:\n")
    done = subprocess.run(
        [sys.executable, "-m", "golf_fast.audit", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "not Python, line 1" in done.stderr


@pytest.mark.parametrize("seed", ["-1", "1.5", "9" * 20, "\u0663"])
def test_a_seed_that_no_generator_takes_is_refused(seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["audit", "run", f"--seed={seed}"])
    with pytest.raises(InputError, match="a whole number from 0 to"):
        main()
