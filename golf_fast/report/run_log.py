"""The log of a run: printed lines, metric records and, on a terminal, a live display.

`log.txt` holds the lines exactly as they were printed. `metrics.jsonl` holds one JSON object a line; "kind" tells what:

    {"kind": "train", "step", "seconds", "loss", "lr_factor", "momentum", "tokens_per_second",
     "expected_artifact_bytes"}                            the last is null but for every log_every-th step
    {"kind": "step", "step", "loss"}                       each step of training, written with the next "train"
    {"kind": "val", "step", "loss", "bpb"}                 validation during training
    {"kind": "stage", "name", "seconds", "bytes", "bpb"}   the end of a stage; bytes and bpb may be null
    {"kind": "compression", "name", "bytes", "bpb"}        a step of compression; bpb on training tokens, may be null
    {"kind": "tensor", "name", "form", "elements", "bits", "error", "output_error", "bpb_change"}   a quantized tensor
    {"kind": "gain", "start", "stop", "fixed", "adapting"}   mean losses of a stretch of validation targets, by the
                                                           artifact as it is and adapting
    {"kind": "resumed", "stage", "step", "done", "lost", "trained"}
                                                           the run goes on: cut short in this stage, from this step of
                                                           the training (null: it had ended), with these stages done;
                                                           seconds of work that are done again, and of training that
                                                           were done before
    {"kind": "repeated", "name", "seconds"}                what attempts at a stage took that were cut short, and counts

Losses are nats a token, seconds are of training, and a number that is not finite is null.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from golf_fast.console import Stream
from golf_fast.errors import InputError, printable
from golf_fast.files import reason, write_all
from golf_fast.report.live import Live, on_terminal
from golf_fast.report.trackers import Trackers
from golf_fast.runs import RunPaths
from golf_fast.runs.plain import plain


class RunLog:
    """Lines, metrics and progress of a run. Ranks other than the first print and write nothing.

    Files of an earlier run in the same directory are added to, never cut. A file whose disk is full is given up, and
    said to be; so is the terminal, in silence. The run goes on.

    Args:
        run_dir: where `log.txt` and `metrics.jsonl` go; None writes no files.
        main: whether this process speaks.

    Raises:
        InputError: the directory cannot be written when the run begins.
    """

    def __init__(self, run_dir: Path | None, main: bool = True) -> None:
        self._main = main
        self._out = sys.stdout if isinstance(sys.stdout, Stream) else Stream(sys.stdout)
        self._log = _appending(RunPaths(run_dir).log) if main and run_dir else None
        self._metrics = _appending(RunPaths(run_dir).metrics) if main and run_dir else None
        self._live = Live(self._out) if main and on_terminal(self._out) else None
        self._trackers: Trackers | None = None

    def track(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        """Tell trackers too, from now on.

        Args:
            names: of the trackers, see `golf_fast.report.trackers.NAMES`; none starts nothing.
            folder: the run directory.
            settings: of the run, dotted name -> plain value.
        """
        if self._main and names:
            self._trackers = Trackers(names, folder, settings)
            self.line(f"trackers: {', '.join(names)}")

    def result(self, fields: Mapping[str, Any]) -> None:
        """Tell trackers the numbers that the run ends with; `result.json` has them for everybody else."""
        if self._trackers:
            self._trackers.result(fields)

    def line(self, text: str = "") -> None:
        """Print a line (or several) and add it to `log.txt`; control characters are escaped."""
        if not self._main:
            return
        text = printable(text, keep="\n\t")
        self._log = self._added(self._log, text)
        if self._live:
            self._live.print(text)
        else:
            self._out.write(f"{text}\n")
            self._out.flush()

    def metric(self, **fields: Any) -> None:
        """Add a record to `metrics.jsonl`; NumPy numbers and tensors of one element are taken as numbers."""
        if self._metrics:
            self._metrics = self._added(self._metrics, json.dumps(plain(fields), allow_nan=False))
        if self._trackers:
            self._trackers.record(fields)
            self._pass_on()

    def _pass_on(self) -> None:
        """Say what trackers complained of, in a line of this thread's own."""
        for text in self._trackers.said() if self._trackers else ():
            self.line(text)

    def _added(self, file: IO[bytes] | None, line: str) -> IO[bytes] | None:
        """`file` with a line more, or None where that failed."""
        if file is None:
            return None
        try:
            write_all(file, f"{line}\n".encode())
            return file
        except OSError as error:
            _close(file)
            if file is self._log:
                self._log = None
            self.line(f"{file.name}: cannot be written ({reason(error)}); it ends here, and the run goes on")
            return None

    def progress(self, stage: str, done: float, total: float | None, text: str = "") -> None:
        """Show on a terminal how far a stage is; nothing elsewhere.

        Args:
            done, total: in any unit; a total of None or 0 is not known, and the bar then only moves.
            text: what else to say, such as the loss.
        """
        if self._live:
            self._live.show(stage, done, total, text)

    def close(self) -> None:
        """Take the live line away, let trackers finish, and close the files; a second call does nothing."""
        if self._trackers:
            self._trackers.close()
            self._pass_on()
            self._trackers = None
        if self._live:
            self._live.stop()
        for file in (self._log, self._metrics):
            if file:
                _close(file)
        self._live = self._log = self._metrics = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _appending(path: Path) -> IO[bytes]:
    """Open for appending; nothing is held back."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)}); a folder that can is needed") from error


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a network's disk tells here that it is full
        file.close()
