"""Trackers are told by a thread of their own: the run hands over numbers and goes on."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golf_fast.errors import printable
from golf_fast.report.trackers.kinds import KINDS, Tracker

_SECONDS_AT_THE_END = 30.0
"""How long a run waits for its trackers when it ends; a server may not answer."""
_HELD = 100_000
"""Records that wait for a tracker at most; further ones are dropped, so that a stuck one does not take the memory."""
_OF_A_STEP = {
    "step": ("train", ("loss",)),
    "train": ("train", ("lr_factor", "momentum", "tokens_per_second", "seconds", "expected_artifact_bytes")),
    "val": ("val", ("loss", "bpb")),
}
"""Kind of a record with a step -> the group that its numbers get, and which they are."""


class Trackers:
    """Hands the records of a run to trackers. One that fails is said once and told no more.

    Args:
        names: of the trackers, see `NAMES`.
        folder: the run directory.
        settings: of the run, dotted name -> plain value.
    """

    def __init__(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        self._records: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_HELD)
        self._complaints: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._step, self._every_step, self._dropped = 0, False, 0
        arguments = (tuple(names), folder, dict(settings))
        self._thread = threading.Thread(target=self._tell, args=arguments, name="trackers", daemon=True)
        self._thread.start()

    def record(self, fields: Mapping[str, Any]) -> None:
        """Take a record as `metrics.jsonl` has it; returns at once."""
        if isinstance(fields.get("step"), int):
            self._step = fields["step"]
        values = self._numbers(fields)
        if values:
            self._put((self._step, values))

    def result(self, fields: Mapping[str, Any]) -> None:
        """Take the numbers that a run ends with, by name."""
        values = {f"result/{name}": number for name, value in fields.items() if (number := _number(value)) is not None}
        self._put((self._step, values))

    def said(self) -> list[str]:
        """What went wrong since the last call, a line each."""
        lines = []
        while not self._complaints.empty():
            lines.append(self._complaints.get())
        return lines

    def close(self) -> None:
        """Wait until all is told, or for half a minute."""
        end: tuple[int, dict[str, float]] | None = None
        self._put(end)
        self._thread.join(_SECONDS_AT_THE_END)
        if self._thread.is_alive():
            self._complaints.put(f"trackers: not done after {_SECONDS_AT_THE_END:g} s; the run ends without them")
        if self._dropped:
            self._complaints.put(f"trackers: {self._dropped:,} records were dropped, as one did not keep up")

    def _put(self, record: tuple[int, dict[str, float]] | None) -> None:
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _numbers(self, fields: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of a record that a tracker draws, by name; of what is drawn nowhere, none."""
        kind = str(fields.get("kind"))
        names: tuple[str, ...]
        if kind == "stage":
            group, names = f"stage/{fields.get('name')}", ("seconds", "bytes", "bpb")
        elif kind == "compression":
            group, names = f"compression/{fields.get('name')}", ("bytes", "bpb")
        else:
            group, names = _OF_A_STEP.get(kind, ("", ()))
        if kind == "step":
            self._every_step = True
        elif kind == "train" and not self._every_step:
            names = ("loss", *names)
        found = {f"{group}/{name}": _number(fields.get(name)) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def _tell(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        """What the thread does: open the trackers, tell them every record, close them."""
        trackers: dict[str, Tracker] = {}

        def attempt(name: str, what: str, action: Any, *arguments: Any) -> Any:
            try:
                return action(*arguments)
            except Exception as error:  # noqa: BLE001  # whatever a tracker throws is the tracker's end and not the run's
                trackers.pop(name, None)
                why = printable(f"{type(error).__name__}: {error}")
                self._complaints.put(f"{name}: failed to {what} ({why[:300]}); the run goes on without it")
                return None

        for name in names:
            opened = attempt(name, "start", KINDS[name], folder, settings)
            if opened is not None:
                trackers[name] = opened
        while (record := self._records.get()) is not None:
            for name, tracker in list(trackers.items()):
                attempt(name, "take a record", tracker.record, *record)
        for name, tracker in list(trackers.items()):
            attempt(name, "end", tracker.close)


def _number(value: Any) -> float | None:
    """`value` as a finite number, a tensor of one element or NumPy's too; None for what is none."""
    if callable(getattr(value, "item", None)):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
