"""What is wrong with the arguments of a program is one line on stderr, and exit code 2."""

import importlib
import sys
from pathlib import Path

import pytest

from golf_fast.arguments import Parser, call
from golf_fast.console import exit_with
from golf_fast.errors import InputError


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        ("ablate", "", "missing: STR (A recipe of golf_fast.train); python -m golf_fast.ablate --help shows all"),
        ("ablate", "tiny --seeds x", "--seeds is 'x': it must be a whole number; python"),
        ("sample", ". --top-p x", "--top-p is 'x': it must be a number; python"),
        ("ablate", "nothing --drop smear", "nothing: no such recipe"),
        ("audit", "--fulll x", "--fulll"),
        ("audit", "there --targets x", "argument --targets: 'x': it must be a whole number, at least 1"),
        ("audit", "there --data nowhere", "argument --data: nowhere: there is no such folder"),
        ("audit", ". --env A=B", "--env: is for a script, and . is the folder of a run"),
        ("audit", "setup.py --full", "--full: is for a run, and setup.py is a script"),
        ("compress", "make nowhere", "nowhere: is of no run"),
        ("compress", "inspect", "python -m golf_fast.compress inspect --help shows all"),
        ("compress", "import", "zstd or zlib), --output PATH (A new file for the artifact, which is written under"),
        ("data", "chek", "chek: no such command; did you mean check? There are build, inspect, check, fetch"),
        ("doctor", "--seconds x", "argument --seconds: 'x': it must be a number of seconds, more than 0"),
        ("doctor", "--preflight --folder nowhere", "argument --folder: nowhere: there is no such folder"),
        ("doctor", "--preflite", "unrecognized arguments: --preflite"),
        ("recipes", "tiny --jsonn", "unrecognized arguments: --jsonn; python -m golf_fast.recipes --help shows all"),
        ("report", "page tests", "tests: has no config.json; name the directory of a run"),
        ("report", "page", "python -m golf_fast.report page --help shows all"),
        ("sample", "nowhere", "nowhere: there is no such file or folder; name the directory of a run, or an artifact"),
        ("sample", "setup.py", "setup.py: begins with"),
        ("sample", "", "python -m golf_fast.sample --help shows all"),
        ("score", "nowhere", "nowhere: there is no such file or folder; name the directory of a run, or an artifact"),
        ("score", "setup.py", "setup.py: begins with"),
        ("score", "there --windoww 3", "--windoww"),
        ("submit", "nowhere --name a --out .", "nowhere: there is no such folder; name the directory of a run"),
        ("submit", "nowhere --name a/b --out .", "--name is 'a/b': it must be"),
        ("submit", "build there", "the following arguments are required: --name, --out"),
        ("train", "tiny --sed 3", "--sed: no such flag; did you mean --seed"),
    ],
)
def test_a_wrong_argument_is_one_line(
    program: str, arguments: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program, *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        exit_with(importlib.import_module(f"golf_fast.{program}.__main__").main)
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert says.lower() in said.err.lower()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["ablate", "tiny", "--out", ""], "--out"),
        (["audit", ""], "path"),
        (["audit", ".", "--data", ""], "--data"),
        (["compress", "make", ""], "PATH"),
        (["data", "build", "--text", ""], "--text"),
        (["data", "build", "--out="], "--out"),
        (["doctor", "--folder", ""], "--folder"),
        (["report", "compare", "a", ""], "PATH"),
        (["sample", "a", "--tokenizer", ""], "--tokenizer"),
        (["score", "", "--device", "cpu"], "PATH"),
        (["submit", "", "--name", "a", "--out", "b"], "RUN_DIR"),
        (["submit", "a", "--name", "a", "--out", ""], "--out"),
        (["train", "tiny", "--data.text", ""], "--data.text"),
        (["train", "tiny", "--runs-dir="], "--runs-dir"),
    ],
)
def test_an_empty_text_is_not_the_current_folder(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        exit_with(importlib.import_module(f"golf_fast.{arguments[0]}.__main__").main)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith(f"error: {named} is empty: it must be a path, such as . for the current folder")
    assert said.count("\n") == 1


def test_no_program_takes_an_empty_path() -> None:
    """But for the built file, which comes without this module; what it is given is a file, and a folder is none."""
    root = Path(__file__).parents[1]
    files = [*root.glob("golf_fast/**/*.py"), *root.glob("benchmarks/**/*.py")]
    own = {str(path.relative_to(root)) for path in files if "type=Path" in path.read_text()}
    assert own == {"golf_fast/submit/entry.py"}


@pytest.mark.parametrize(("kind", "what"), [(int, "whole number"), (float, "number")])
def test_a_text_that_is_no_number_is_said_as_other_wrong_values(kind: type, what: str) -> None:
    parser = Parser("p")
    parser.add_argument("--steps", type=kind)
    with pytest.raises(InputError, match=f"^--steps is 'x': it must be a {what}; p --help shows all$"):
        parser.parse_args(["--steps", "x"])


def test_a_program_is_called_after_its_arguments_were_read(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[object] = []

    def count(number: int, loud: bool = False) -> None:
        """Count.

        Args:
            number: How far.
        """
        seen.append((number, loud))
        print("counting", file=sys.stderr)
        raise InputError("7 is enough")

    with pytest.raises(InputError, match=r"^7 is enough$"):
        call({"count": count, "other": lambda: None}, "p", args=["count", "--number", "8", "--loud"])
    assert seen == [(8, True)]
    assert capsys.readouterr().err == "counting\n", "what a program says is not held back"


def test_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def count(number: int) -> None:
        """Count.

        Args:
            number: How far, and this goes on
                in another line.
        """

    for helped in (lambda: call(count, "p", args=["--help"]), lambda: Parser("p").parse_args(["--help"])):
        with pytest.raises(SystemExit) as stop:
            helped()
        assert not stop.value.code
    assert "How far, and this goes on in another line." in " ".join(capsys.readouterr().out.split())


def test_every_program_has_this_parser() -> None:
    """But for the built file, which needs none of the package's own words for it."""
    root = Path(__file__).parents[1]
    files = [*root.glob("golf_fast/**/*.py"), *root.glob("benchmarks/**/*.py")]
    own = {str(path.relative_to(root)) for path in files if "ArgumentParser(" in path.read_text()}
    assert own == {"golf_fast/submit/entry.py"}
