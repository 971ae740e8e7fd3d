"""The live line on a terminal: the stage, its text and the remaining time; also a bar and the elapsed time if there is
room."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from golf_fast.console import Stream

if TYPE_CHECKING:
    from rich.progress import TaskID

_WIDE = 116
"""Number of terminal columns from which a bar and the elapsed time are shown."""


def on_terminal(stream: Stream) -> bool:
    """Whether a live line can be drawn on `stream`."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Live:
    """A line that is redrawn in place, below the lines that are printed."""

    def __init__(self, stream: Stream) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._console = Console(file=stream)  # type: ignore[arg-type]
        wide = self._console.width >= _WIDE
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=24)] if wide else []),
            TextColumn("{task.fields[said]}", markup=False),
            *([TimeElapsedColumn()] if wide else []),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            refresh_per_second=5,
        )
        self._stage: str | None = None
        self._task: TaskID | None = None

    def print(self, text: str) -> None:
        """Print above the live line, without wrapping, markup or colour."""
        self._console.out(text, highlight=False)

    def show(self, stage: str, done: float, total: float | None, text: str) -> None:
        """Set the live line; a new stage restarts the clock."""
        total = total or None
        if stage != self._stage or self._task is None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._stage, self._task = stage, self._progress.add_task(stage, total=total, said=text)
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total, said=text)

    def stop(self) -> None:
        """Remove the live line."""
        self._progress.stop()
