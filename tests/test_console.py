"""How programs speak and end."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import golf_fast
from golf_fast import console
from golf_fast.console import Stream, Terminated, as_meant, deferred, exit_with, guarded
from golf_fast.errors import InputError


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
    program = "from golf_fast.console import exit_with\nexit_with(lambda: print('line\\n' * 100000))"
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


class Failing(io.TextIOBase):
    """A stream whose terminal, disk or reader goes away after some writes."""

    def __init__(self, error: Exception, after: int = 0) -> None:
        self.error = error
        self.after = after
        self.written: list[str] = []

    def write(self, text: str) -> int:
        if len(self.written) >= self.after:
            raise self.error
        self.written.append(text)
        return len(text)


def code_of(main: Callable[[], None], **options: bool) -> int:
    with pytest.raises(SystemExit) as stop:
        exit_with(main, **options)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOSPC, "No space left on device"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        ValueError("I/O operation on closed file."),
    ],
)
def test_a_stream_that_fails_is_given_up_and_nothing_else(error: Exception) -> None:
    under = Failing(error, after=1)
    stream = Stream(under)
    print("first", file=stream, end="", flush=True)
    assert stream.lost is None
    for _ in range(3):
        print("second", file=stream, flush=True)
    assert stream.lost is error
    assert under.written == ["first"]
    assert not stream.isatty()


def test_what_an_encoding_lacks_is_escaped() -> None:
    for under in (io.TextIOWrapper(io.BytesIO(), "ascii"), io.TextIOWrapper(io.BytesIO(), "cp1252", "strict")):
        stream = Stream(under)
        stream.write("caf\u00e9 \u25aa \udce9\n")
        stream.flush()
        assert stream.lost is None
        assert under.buffer.getvalue().endswith(b" \\u25aa \\udce9\n")


def test_a_closed_descriptor_is_a_stream_that_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with guarded() as (out, _):
        print("nowhere", flush=True)
        assert not sys.stdout.isatty()
    assert out.lost is not None
    assert sys.stdout is None


@pytest.mark.parametrize(("prints", "code"), [(True, 1), (False, 0)])
def test_lost_output_is_a_failure_where_it_is_the_point(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prints: bool, code: int
) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(OSError(errno.ENOSPC, "No space left on device")))
    done: list[int] = []

    def main() -> None:
        print("a line", flush=True)
        done.append(1)

    assert code_of(main, prints=prints) == code
    assert done == [1], "the work went on"
    said = "error: standard output: cannot be written (No space left on device)\n"
    assert capsys.readouterr().err == (said if prints else "")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&- <&-", "> /dev/full"])
def test_descriptors_that_are_closed_or_full_end_no_program(redirection: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from golf_fast.console import exit_with\n"
        "def main():\n"
        "    with open('file', 'w') as file:\n"
        "        print('a line', flush=True); print('another', file=sys.stderr, flush=True); file.write('whole')\n"
        "exit_with(main, prints=False)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(golf_fast.__file__).parents[1])}
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        ["sh", "-c", f'"$0" program.py {redirection}', sys.executable],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.replace("another\n", "")) == (0, "")
    assert (tmp_path / "file").read_text() == "whole", "no line of the output went into it"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_as_ctrl_c(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    steps: list[str] = []

    def main() -> None:
        try:
            os.kill(os.getpid(), number)
            steps.append("not reached")
        except Terminated:
            os.kill(os.getpid(), number)  # a terminal that closes sends two
            steps.append("written down")
            raise

    before = signal.signal(number, signal.SIG_DFL)  # under nohup a hangup is ignored
    try:
        assert code_of(main) == code
        assert steps == ["written down"]
        assert capsys.readouterr().err == f"interrupted: {number.name}\n"
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert code_of(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_stays_one_line_whatever_a_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise InputError("a\x1b]0;owned\x07\nb\r\u202e\udce9: is wrong")

    assert code_of(main) == 2
    assert capsys.readouterr().err == "error: a\\x1b]0;owned\\x07\\nb\\r\\u202e\\udce9: is wrong\n"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--runs-dir=~/runs", "--runs-dir=/home/me/runs"),
        ("--data.built=~", "--data.built=/home/me"),
        ("--run-id=a~b", "--run-id=a~b"),
        ("--data.text=~other/x", "--data.text=~other/x"),
        ("~/already/expanded/by/the/shell", "~/already/expanded/by/the/shell"),
        ("seed\r", "seed"),
        ("--seed=3\r", "--seed=3"),
    ],
)
def test_words_are_taken_as_they_are_meant(monkeypatch: pytest.MonkeyPatch, word: str, meant: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert as_meant(word) == meant
    said: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["program", word])
    assert code_of(lambda: said.append(sys.argv[1:])) == 0
    assert said == [[meant]]


def test_a_terminal_of_one_column_gets_what_fits_in_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1")
    seen: list[int] = []
    with pytest.raises(SystemExit, match="0"):
        exit_with(lambda: seen.append(int(os.environ["COLUMNS"])))
    assert seen == [20]


def test_a_path_that_cannot_be_asked_about_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_with(lambda: print(Path("a" * 5000).is_dir()))
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {'a' * 5000}: cannot be read (File name too long)\n"


def test_a_signal_can_wait_for_the_end_of_a_step() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with deferred() as deferral:
        deferral.holding = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # at once: the same wish
        assert deferral.number == signal.SIGTERM
        with pytest.raises(Terminated) as stop:
            deferral.end()
    assert stop.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_ONE_PRESS_SECONDS", 0.0)
    with deferred() as deferral:
        deferral.holding = True
        os.kill(os.getpid(), signal.SIGINT)
        assert deferral.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_nothing_holds_back_ends_at_once() -> None:
    with deferred() as deferral:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert deferral.number == 0


@pytest.mark.skipif(sys.platform != "linux", reason="asks the C library for a lock by its Linux layout")
def test_a_rank_that_waits_where_no_python_runs_ends_a_while_after_a_signal() -> None:
    program = """
import ctypes
from golf_fast import console
console.HANG_SECONDS = 0.2
def main():
    c, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    c.pthread_mutex_lock(lock)
    print("waiting", flush=True)
    c.pthread_mutex_lock(lock)
console.exit_with(main)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(golf_fast.__file__).parents[1]), "WORLD_SIZE": "2"}
    waiting = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE)
    assert waiting.stdout
    assert waiting.stdout.readline() == b"waiting\n"
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(timeout=30) == 128 + signal.SIGTERM
