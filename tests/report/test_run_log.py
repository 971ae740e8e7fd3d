"""Lines and metrics in files and on a pipe, and a live line on a terminal alone."""

import errno
import io
import json
import math
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from golf_fast.errors import InputError
from golf_fast.report import RunLog

# One line is wider than the terminal and looks like markup; the progress goes through two stages.
PROGRAM = """
import sys, time
from pathlib import Path
from golf_fast.report import RunLog
with RunLog(Path(sys.argv[1])) as log:
    log.line("first [bold]:smile: " + "x" * 100 + " 1.5")
    for step in range(3):
        log.progress("training", step, 3, f"loss {step}.25 [red]")
        time.sleep(0.25)
    log.line("step:5/5 train_loss:2.5 step_avg:1.0ms")
    log.progress("scoring", 1, None, "bpb 2.0")
    time.sleep(0.3)
    log.line("val_loss:1.5 val_bpb:2.0")
print("after")
"""
LINES = [
    "first [bold]:smile: " + "x" * 100 + " 1.5",
    "step:5/5 train_loss:2.5 step_avg:1.0ms",
    "val_loss:1.5 val_bpb:2.0",
]


def on_terminal(run_dir: Path, term: str, columns: int = 80) -> str:
    """What PROGRAM writes to a pseudo-terminal."""
    import pty

    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": term, "COLUMNS": str(columns), "LINES": "24"}
    command = [sys.executable, "-c", PROGRAM, str(run_dir)]
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    pieces, end = [], time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([ours], [], [], 0.2)[0]:
            if program.poll() is not None:
                break
            continue
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(ours)
    assert program.wait(timeout=30) == 0, b"".join(pieces).decode()
    return b"".join(pieces).decode()


def shown(output: str) -> str:
    """Without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_live_line(tmp_path: Path) -> None:
    output = on_terminal(tmp_path, "xterm-256color")
    text = shown(output)
    assert re.search(r"training +loss \d\.25 \[red\] +eta", text)
    assert re.search(r"scoring .*bpb 2\.0", text)
    assert "\x1b[2K" in output, "the line is redrawn in place"
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") >= 1, "the cursor comes back"
    for line in LINES:
        assert line in text
    assert text.rstrip().endswith("after")
    assert (tmp_path / "log.txt").read_text().splitlines() == LINES


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_wide_terminal_shows_a_bar_and_the_time_gone(tmp_path: Path) -> None:
    text = shown(on_terminal(tmp_path, "xterm-256color", 130))
    assert re.search(r"training [━╸╺ ]{24} +loss \d\.25 \[red\] +\d:\d\d:\d\d eta", text)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_dumb_terminal_shows_lines_alone(tmp_path: Path) -> None:
    assert on_terminal(tmp_path, "dumb").split() == " ".join([*LINES, "after"]).split()


def test_a_pipe_shows_lines_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*LINES, "after"]
    assert done.stderr == ""
    assert (tmp_path / "log.txt").read_text().splitlines() == LINES


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    program = PROGRAM.replace('print("after")', 'Path(sys.argv[1], "after").touch()')
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(timeout=30) == 0
    assert (tmp_path / "after").exists()
    assert (tmp_path / "log.txt").read_text().splitlines() == LINES


def test_metrics_are_valid_json_and_reach_the_file_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "new" / "folder")
    log.metric(kind="train", step=np.int64(3), loss=torch.tensor(2.5), seconds=np.float32(0.5), ok=True, name="é\n")
    log.metric(loss=math.nan, best=-math.inf, tensor=torch.tensor(float("inf")), path=Path("a"), list=[1.0, math.nan])
    lines = (tmp_path / "new" / "folder" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines)
    assert first == {"kind": "train", "step": 3, "loss": 2.5, "seconds": 0.5, "ok": True, "name": "é\n"}
    assert type(first["step"]) is int
    assert second == {"loss": None, "best": None, "tensor": None, "path": "a", "list": [1.0, None]}
    log.close()


def test_lines_reach_the_file_at_once_and_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path)
    log.line("one\n  two")
    log.line()
    log.progress("training", 1, 2, "nothing of this")
    assert (tmp_path / "log.txt").read_bytes() == b"one\n  two\n\n"
    assert capsys.readouterr().out == "one\n  two\n\n"
    log.close()
    log.close()


def test_files_of_an_earlier_run_are_added_to(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with RunLog(tmp_path) as log:
            log.line(text)
            log.metric(text=text)
    assert (tmp_path / "log.txt").read_text() == "first\nsecond\n"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_other_ranks_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path / "run", main=False) as log:
        log.line("a")
        log.metric(a=1)
        log.progress("a", 1, 2, "a")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "run").exists()


def test_without_a_directory_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(None) as log:
        log.line("a")
        log.metric(a=1)
    assert capsys.readouterr().out == "a\n"


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"log\.txt: cannot be written .*; a folder that can is needed$"):
        RunLog(tmp_path / "file")


class Full(io.RawIOBase):
    """A file on a disk that has room for `room` bytes more; what does not fit is taken in part, then refused."""

    name = "metrics.jsonl"

    def __init__(self, room: int) -> None:
        self.room = room
        self.held = b""

    def write(self, content: bytes) -> int:  # type: ignore[override]
        taken = bytes(content[: self.room - len(self.held)])
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.held += taken
        return len(taken)

    def close(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("name", ["_log", "_metrics"])
def test_a_full_disk_costs_a_file_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with RunLog(tmp_path) as log:
        full = Full(24)
        setattr(log, name, full)
        for step in range(4):
            log.line(f"line {step}")
            log.metric(kind="val", step=step)
    assert len(full.held) == 24
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("line")] == [f"line {step}" for step in range(4)]
    assert (
        said.count("metrics.jsonl: cannot be written (No space left on device); it ends here, and the run goes on") == 1
    )
    other = (tmp_path / ("metrics.jsonl" if name == "_log" else "log.txt")).read_text()
    assert other.count("\n") == (4 if name == "_log" else 5), "the other file is whole"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("closed")])
def test_a_terminal_that_goes_away_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if "step 2" in text:
                raise error
            return super().write(text)

        def isatty(self) -> bool:
            return True

    for term in ("dumb", "xterm"):
        monkeypatch.setenv("TERM", term)
        monkeypatch.setattr(sys, "stdout", Terminal())
        with RunLog(tmp_path / term) as log:
            for step in range(4):
                log.progress("training", step, 4, "é\udce9")
                log.line(f"step {step}")
        assert (tmp_path / term / "log.txt").read_text().splitlines() == [f"step {step}" for step in range(4)]


def test_control_characters_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path) as log:
        log.line("run \x1b[2Ja\udce9\n\tnext")
    assert capsys.readouterr().out == "run \\x1b[2Ja\\udce9\n\tnext\n"
    assert (tmp_path / "log.txt").read_text() == "run \\x1b[2Ja\\udce9\n\tnext\n"
