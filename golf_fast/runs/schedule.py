"""`schedule.json`: the rates of every step of a run, and how its time was shared out."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from golf_fast import json_files
from golf_fast.checks import MOST, later, require
from golf_fast.files import replacing
from golf_fast.from_plain import from_plain


@dataclass(frozen=True)
class Times:
    """How a run's training time was shared out, in seconds."""

    limit: float
    """The longest time that the run was allowed; 0 for no limit."""
    kept: float
    """The part of the limit that was kept for calibrating and quantizing."""
    trained: float
    """The time that training took."""
    quantized: float
    """The time that calibrating and quantizing took where training tokens have a part in the result, else 0."""


@dataclass(frozen=True)
class RecordedSchedule:
    """What a run leaves of its schedule, for a replay."""

    steps: int
    """How many steps the run did."""
    lr_factor: list[float]
    """The factor on every learning rate at each step, 0 or more."""
    momentum: list[float]
    """Muon's momentum at each step, at least 0 and below 1."""
    gave_up_calibration: bool = later(False)
    """Whether the clock ran out before the quantization that reads training tokens was done."""
    budget: Times | None = later(None)
    """How the time was shared out, where the run recorded it; a replay does not depend on it."""

    rows_from: tuple[int, ...] = later(())
    """The steps, counted from 0, from which on rows had each length of row_lengths; empty if it never changed."""
    row_lengths: tuple[int, ...] = later(())
    """The lengths of the training rows, in their order."""
    loop_from: int = later(0)
    """The step, counted from 0, from which on the layers of the model's loop were repeated."""
    windows_from: tuple[int, ...] = later(())
    """The steps, counted from 0, from which on attention saw at most what windows says; empty if it never had a
    limit."""
    windows: tuple[int, ...] = later(())
    """The most positions that attention saw, in their order; 0: as the model says."""

    def __post_init__(self) -> None:
        held = min(len(self.lr_factor), len(self.momentum))
        require(
            0 < self.steps == len(self.lr_factor) == len(self.momentum),
            "steps",
            self.steps,
            f"more than 0, and the length of lr_factor and momentum; they hold {held}",
        )
        for step, (factor, momentum) in enumerate(zip(self.lr_factor, self.momentum, strict=True)):
            require(0 <= factor <= MOST, f"lr_factor of step {step}", factor, f"from 0 to {MOST}")
            require(0 <= momentum < 1, f"momentum of step {step}", momentum, "at least 0 and below 1")
        within = f"from 0 to {self.steps}, the steps"
        require(0 <= self.loop_from <= self.steps, "loop_from", self.loop_from, within)
        for name, values, least in (("rows_from", "row_lengths", 1), ("windows_from", "windows", 0)):
            since, held_from = getattr(self, name), getattr(self, values)
            rising = (not since or since[0] == 0) and all(a < b for a, b in pairwise((*since, self.steps)))
            right = f"rising from 0, below steps, and as many as {values}"
            require(rising and len(since) == len(held_from), name, list(since), right)
            for value in held_from:
                require(least <= value <= MOST, values, value, f"from {least} to {MOST}")

    def write(self, path: Path) -> None:
        """Write `path` whole or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        with replacing(path, "w") as file:
            json.dump(dataclasses.asdict(self), file)


def read(path: Path) -> RecordedSchedule:
    """The schedule in `path`.

    Raises:
        InputError: the file is missing, or is not the schedule of a run.
    """
    return from_plain(RecordedSchedule, json_files.read_object(path, "the schedule of a run is needed"), path)
