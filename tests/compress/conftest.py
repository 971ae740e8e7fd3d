"""What the tests of `python -m golf_fast.compress` share."""

import sys
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from golf_fast.compress.__main__ import main
from golf_fast.console import exit_with


@pytest.fixture
def compress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CompletedProcess[str]]:
    """The program, run in this process: a function of its arguments."""

    def run(*arguments: object) -> CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["compress", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            exit_with(main)
        printed = capsys.readouterr()
        return CompletedProcess(sys.argv, int(stop.value.code or 0), printed.out, printed.err)

    return run
