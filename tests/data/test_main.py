import sys
from pathlib import Path

import pytest

from golf_fast.console import exit_with
from golf_fast.data import Tokenizer, write_shard
from golf_fast.data.__main__ import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["data", *arguments])
    with pytest.raises(SystemExit) as caught:
        exit_with(main)
    return int(caught.value.code or 0)


def test_build_then_inspect(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["build", "--text", str(text_folder), "--vocab-size", "300", "--out", str(tmp_path / "b")]
    assert run(monkeypatch, *options) == 0
    told = capsys.readouterr()
    assert "40/40" in told.err or "train tokenizer: 1/1" in told.err
    assert "documents" in told.out
    assert "fingerprint " in told.out
    assert run(monkeypatch, *options) == 0
    assert "found, built before" in capsys.readouterr().out
    (folder,) = (tmp_path / "b").iterdir()
    assert run(monkeypatch, "inspect", str(folder)) == 0
    shown = capsys.readouterr().out
    assert "text_val_000000.bin" in shown
    assert any(path.read_text()[:60] in shown for path in text_folder.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "--text", "nowhere"),
        ("build", "--val-fraction", "1.5"),
        ("inspect", "nowhere.bin"),
        ("fetch", "--variant", "what"),
        ("build", "--unknown", "1"),
    ],
)
def test_bad_input_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--val-fraction", "2"], "error: --val-fraction is 2.0: it must be between 0 and 1"),
        (["--out", "file"], "error: file: cannot be written (File exists); name another in --out"),
    ],
)
def test_build_names_the_flags_that_it_has(
    arguments: list[str],
    says: str,
    text_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "build", "--text", str(text_folder), *arguments) == 2
    assert capsys.readouterr().err.splitlines() == [says]


def test_help_explains_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("build", "inspect", "fetch"))


def test_names_and_texts_from_files_cannot_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tokenizer: Tokenizer
) -> None:
    text = "a\x1b]0;owned\x07 b\r\u202e"
    write_shard(tmp_path / "x\x1b[2J.bin", [tokenizer.bos_id, *tokenizer.encode(text)])
    assert run(monkeypatch, "inspect", str(tmp_path), "--tokenizer", str(tokenizer.path)) == 0
    shown = capsys.readouterr().out
    assert "x\\x1b[2J.bin: " in shown
    assert "a\\x1b]0;owned\\x07 b\\r\\u202e" in shown
    assert not set(shown) & {"\x1b", "\x07", "\r", "\u202e"}
