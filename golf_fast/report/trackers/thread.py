"""Forwards the records of a run to trackers from a separate thread, so that the run never waits for them."""

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
"""Seconds that a run waits for its trackers when it ends; a server may not answer."""
_HELD = 100_000
"""Greatest number of queued records; further ones are dropped, so that a stuck tracker does not fill the memory."""
_OF_A_STEP = {
    "step": ("train", ("loss",)),
    "train": ("train", ("lr_factor", "momentum", "tokens_per_second", "seconds", "expected_artifact_bytes")),
    "val": ("val", ("loss", "bpb")),
}
"""For each kind of record with a step: the group of its numbers, and the names of those that trackers get."""


class Trackers:
    """Forwards the records of a run to trackers. A tracker that fails is reported once and gets no further records.

    Args:
        names: names of the trackers, see `NAMES`.
        folder: the run directory.
        settings: the settings of the run, plain values by dotted name.
    """

    def __init__(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        self._records: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_HELD)
        self._complaints: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._step, self._every_step, self._dropped = 0, False, 0
        arguments = (tuple(names), folder, dict(settings))
        self._thread = threading.Thread(target=self._tell, args=arguments, name="trackers", daemon=True)
        self._thread.start()

    def record(self, fields: Mapping[str, Any]) -> None:
        """Queue a record as in `metrics.jsonl`; returns at once."""
        if isinstance(fields.get("step"), int):
            self._step = fields["step"]
        values = self._numbers(fields)
        if values:
            self._put((self._step, values))

    def result(self, fields: Mapping[str, Any]) -> None:
        """Queue the numbers of the final result, by name."""
        values = {f"result/{name}": number for name, value in fields.items() if (number := _number(value)) is not None}
        self._put((self._step, values))

    def said(self) -> list[str]:
        """The failures since the last call, one line each."""
        lines = []
        while not self._complaints.empty():
            lines.append(self._complaints.get())
        return lines

    def close(self) -> None:
        """Wait until all records are forwarded, for half a minute at most."""
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
        """The numbers of a record that trackers get, by name; empty for other kinds of record."""
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
        """Body of the thread: open the trackers, forward every record, close them."""
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
    """`value`, which may be a tensor or array of one element, as a finite number; None if it is not one."""
    if callable(getattr(value, "item", None)):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
