"""How programs end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import golf_fast
from golf_fast.errors import InputError, exit_with


def test_wrong_input_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise InputError("x is 3: it must be 4")

    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: x is 3: it must be 4\n"


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_our_own_mistakes_keep_their_traceback() -> None:
    def main() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        exit_with(main)


def test_a_reader_that_goes_away_ends_the_program_in_silence() -> None:
    program = "from golf_fast.errors import exit_with\nexit_with(lambda: print('line\\n' * 100000))"
    environment = os.environ | {"PYTHONPATH": str(Path(golf_fast.__file__).parents[1])}
    writer = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout
    assert writer.stderr
    assert writer.stdout.readline() == b"line\n"
    writer.stdout.close()
    error = writer.stderr.read()
    assert writer.wait(timeout=60) == 1
    assert error == b""
