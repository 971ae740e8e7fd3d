"""The ledger: a record of what was scored and what was trained on, in order.

Validation tokens reach training only through it, so the legality of a score is judged by what happened and not by what
was configured. `golf_fast.score.verdict` judges it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from golf_fast import json_files
from golf_fast.data import BOS_ID
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, reason, write_all
from golf_fast.score import digest
from golf_fast.score.coverage import Coverage
from golf_fast.score.rows import TokenRows, TrainingRows
from golf_fast.score.verdict import Facts, Records, Verdict, judge

Ranges = Sequence[tuple[int, int]]
"""Ranges of targets, the second number exclusive; target i is token i + 1."""
Event = dict[str, Any]
Hash = str | digest.Later
_MOST_BYTES = 1 << 30
CUTS = ("epochs", "documents", "pass", "slice")
"""What a time limit can cut short: epochs of a chunk, chunks of a batch of documents, chunks of a pass, steps on a
held-out slice."""
_MOST_WAITING = 16
"""Greatest number of records that wait for hashes from a device."""


class LegalityError(AssertionError):
    """The program was about to break a rule of scoring: a fault of the program, never of an input."""


class Ledger:
    """The record of one scoring pass over one sequence of tokens.

    Every rank keeps a ledger of what all ranks did; only one of them writes a file, with one JSON object per line, as
    events happen (docs/rules.md, "The ledger").
    """

    def __init__(self, path: Path | None = None) -> None:
        """Create an empty ledger, which is written to `path` if one is given.

        Raises:
            InputError: the file cannot be written.
        """
        self._file: IO[bytes] | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("wb", buffering=0)
            except OSError as error:
                raise InputError(f"{path}: cannot be written ({reason(error)}); name a file that can") from error
        self._rows: TokenRows | None = None
        self._scored = Coverage(0)
        self._held: list[Event] | None = None
        self._waiting: list[Event] = []
        self._events: list[Event] = []
        self._records = Records()

    def begin(self, rows: TokenRows, strategy: str = "off", max_seconds: float = 0.0) -> None:
        """Begin a pass over the tokens to be scored, with a time limit in seconds (0: none).

        Raises:
            LegalityError: this ledger has begun a pass already; every pass needs a ledger of its own.
        """
        if self._rows is not None:
            raise LegalityError("the ledger already belongs to a pass: a second pass needs its own")
        self._rows = rows
        self._scored = Coverage(rows.targets)
        limit = {"max_seconds": max_seconds} if max_seconds else {}
        self._write({"event": "begin", "targets": rows.targets, "strategy": strategy, **limit})

    @property
    def events(self) -> list[Event]:
        """The events so far, as the lines of the file."""
        self.flush()
        return self._events

    def scored(self, start: int, stop: int, phase: str = "stream", weights: Hash = "") -> None:
        """Record that targets `start` to `stop` (exclusive) are scored by weights with this hash.

        Raises:
            LegalityError: one of them was scored before, or an earlier target was not.
        """
        self.require_next(start, stop)
        self._scored.mark(start, stop)
        named = {"phase": phase, "weights": weights, **self._tokens_of([(start, stop)])}
        self._write({"event": "score", "start": start, "stop": stop, **named})

    def require_next(self, start: int, stop: int) -> None:
        """Check that targets `start` to `stop` (exclusive) may be scored: all earlier ones are, and none of them is.

        Raises:
            LegalityError: they may not.
        """
        done, targets = self._scored, self._all.targets
        if not 0 <= start < stop <= targets or done.frontier < start or done.any(start, stop):
            raise LegalityError(
                f"targets {start} to {stop} are scored when {done.count} of {targets} are: "
                "each is scored once, from left to right"
            )

    def require_own_context(self, begin: int, start: int, stop: int) -> None:
        """Check that targets `start` to `stop` (exclusive) and their context from token `begin` on are in one document.

        Raises:
            LegalityError: they are not.
        """
        if not self._document_of(start, stop)[0] <= begin <= start:
            raise LegalityError(f"targets {start} to {stop} are read from {begin} on, which is not in their document")

    def scored_in_documents(self, ranges: Ranges, phase: str, batch: int, weights: Hash, adapters: Hash = "") -> None:
        """Record that one range of each document of a batch is scored, independently of the other documents.

        Raises:
            LegalityError: a range is not within a document, was scored before, or an earlier target of its document was
                not.
        """
        begins = self._take_documents(ranges)
        named = {"phase": phase, "weights": weights, "batch": batch, "begins": begins}
        named |= {"adapters": adapters} if adapters else {}
        self._write({"event": "score", **_placed(ranges), **named, **self._tokens_of(ranges)})

    def rows_for_training(self, start: int, count: int, window: int) -> TrainingRows:
        """Hand out `count` rows of `window` tokens, the first row's first target being `start`.

        Raises:
            LegalityError: one of their targets is not scored yet, or all targets are, so that training could help none.
        """
        return self.rows_of([(start, start + count * window)], window, "stream")

    def rows_of(self, ranges: Ranges, window: int, phase: str) -> TrainingRows:
        """As `rows_for_training`, for several ranges that are joined and cut into rows of `window` tokens."""
        self._require_scored(ranges)
        if self.complete:
            start, stop = ranges[0][0], ranges[-1][1]
            raise LegalityError(f"targets {start} to {stop} are asked for training after the last target was scored")
        self._note_trained(ranges, window, True, phase)
        return TrainingRows(self._all, ranges, window)

    def trained_in_documents(self, ranges: Ranges, phase: str, batch: int) -> None:
        """Record that the adapters of each document of a batch are trained on a scored range of that document.

        Raises:
            LegalityError: a target of a range is not scored yet, or all of its document are.
        """
        self._require_going_on(ranges)
        self._note_trained(ranges, 0, True, phase, batch)

    def unscored_rows(self, start: int, count: int, window: int) -> TrainingRows:
        """As `rows_for_training`, without its checks. This breaks the rules and is recorded as a violation (V1)."""
        ranges = [(start, start + count * window)]
        self._require_inside(ranges)
        self._note_trained(ranges, window, False, "published")
        return TrainingRows(self._all, ranges, window)

    def trained_elsewhere(self, tokens: int, hashed: str) -> None:
        """Record that the weights were trained on tokens that are not to be scored."""
        self._write({"event": "adapt", "source": "training", "size": tokens, "tokens": hashed})

    def cut(self, what: str, place: int, done: int, planned: int, batch: int | None = None) -> None:
        """Record that adaptation was cut short by the time limit: `done` of `planned` units were carried out.

        Args:
            what: one of `CUTS`.
            place: first target of the chunk or of the longest document, number of the pass, or 0.
            batch: number of the batch of documents, of which the other ranks learn with its scores; None: not of one.
        """
        named = {} if batch is None else {"batch": batch}
        self._write({"event": "limit", "what": what, "place": place, "done": done, "planned": planned, **named})

    def hold(self) -> None:
        """Hold back new records until those of the other ranks are known."""
        self._held = self._held or []

    @property
    def held(self) -> list[Event]:
        """The records since `hold`, as plain values."""
        return [_read(event) for event in self._held or ()]

    def release(self, others: Iterable[Event]) -> None:
        """Record the events held back here and those of the other ranks, in the order of their batches.

        Raises:
            LegalityError: as for the methods that record such events.
        """
        held, self._held = self.held, None
        for event in others:
            if event["event"] == "score":
                self._take_documents(ranges_of(event))
            elif event["event"] == "train":
                self._require_going_on(ranges_of(event))
            held.append(event)
        self._waiting += sorted(held, key=lambda event: int(event["batch"]))
        self.flush()

    def flush(self) -> None:
        """Write the records that wait for hashes from a device.

        Raises:
            InputError: the file cannot be written.
        """
        waiting, self._waiting = [_read(event) for event in self._waiting], []
        for event in waiting:
            self._events.append(event)
            self._records.take(event)
        if self._records.unexplained:
            raise LegalityError("the weights changed, and the ledger handed out nothing that they could learn from")
        if self._file is None or not waiting:
            return
        try:
            write_all(self._file, "".join(f"{json.dumps(event)}\n" for event in waiting).encode())
        except OSError as error:
            raise InputError(
                f"{self._file.name}: cannot be written ({reason(error)}); without it no score is legal, make room"
            ) from error

    def end(self) -> None:
        """Close the file.

        Raises:
            LegalityError: a target was not scored.
        """
        if not self.complete or self._held is not None:
            raise LegalityError(f"{self._scored.count} of {self._all.targets} targets were scored: all must be")
        verdict = self.verdict
        found = {"legal": not verdict.violations, "violations": verdict.violations}
        self._write({"event": "end", "targets": self._all.targets, **found})
        if self._file is not None:
            self._file.close()

    @property
    def complete(self) -> bool:
        """Whether every target is scored."""
        return self._scored.complete

    @property
    def verdict(self) -> Verdict:
        """The verdict on the records so far, without any facts about the run."""
        return self.judged(Facts())

    def judged(self, facts: Facts) -> Verdict:
        """The verdict on the records so far, given facts about the run."""
        self.flush()
        return judge(self._records, facts)

    @property
    def violations(self) -> list[str]:
        """The rules broken so far, by their number (V1: train, then score)."""
        return self.verdict.violations

    @property
    def legal(self) -> bool:
        """Whether no recorded event breaks a rule."""
        return not self.violations

    @property
    def adapted(self) -> bool:
        """Whether validation tokens were handed out for training (track B) or not (track A)."""
        self.flush()
        return self._records.adapted

    @cached_property
    def documents(self) -> npt.NDArray[np.int64]:
        """The first target of each document, then the number of targets: `[documents + 1]`.

        A document extends from a BOS to the next BOS, which is its last target.
        """
        starts = np.flatnonzero(self._host[:-1] == BOS_ID)
        return np.unique(np.concatenate(([0], starts, [self._all.targets])))

    @cached_property
    def _host(self) -> npt.NDArray[np.uint16]:
        return self._all.on_host()

    @property
    def _all(self) -> TokenRows:
        if self._rows is None:
            raise LegalityError("the ledger has no tokens yet: begin comes first")
        return self._rows

    @cached_property
    def _bounds(self) -> list[int]:
        return [int(bound) for bound in self.documents]

    def _document_of(self, start: int, stop: int) -> tuple[int, int]:
        self._require_inside([(start, stop)])
        place = bisect_right(self._bounds, start)
        first, after = self._bounds[place - 1], self._bounds[place]
        if stop > after:
            raise LegalityError(f"targets {start} to {stop} are not within a document: one ends at {after}")
        return first, after

    def _take_documents(self, ranges: Ranges) -> bool:
        """Mark a range of each of several documents as scored; returns whether they are the first of their
        documents."""
        begins = True
        for start, stop in ranges:
            first, _ = self._document_of(start, stop)
            begins &= start == first
            if not self._scored.all(first, start) or self._scored.any(start, stop):
                raise LegalityError(
                    f"targets {start} to {stop} of the document from {first} on are scored when those before them in "
                    "it are: each is scored once, from left to right"
                )
            self._scored.mark(start, stop)
        return begins

    def _require_going_on(self, ranges: Ranges) -> None:
        """Check that the ranges are scored and do not end their documents."""
        self._require_scored(ranges)
        for start, stop in ranges:
            if self._document_of(start, stop)[1] == stop:
                raise LegalityError(f"targets {start} to {stop} are the last of their document: nothing follows them")

    def _require_inside(self, ranges: Ranges) -> None:
        for start, stop in ranges:
            if not 0 <= start < stop <= self._all.targets:
                raise LegalityError(f"targets {start} to {stop} are not among the {self._all.targets} there are")

    def _require_scored(self, ranges: Ranges) -> None:
        self._require_inside(ranges)
        for start, stop in ranges:
            if not self._scored.all(start, stop):
                done = self._scored.count
                raise LegalityError(f"targets {start} to {stop} are asked for training, but only {done} are scored")

    def _note_trained(self, ranges: Ranges, window: int, scored: bool, phase: str, batch: int | None = None) -> None:
        how = {"window": window} if batch is None else {"batch": batch}
        named = how | {"scored": scored, "phase": phase}
        self._write({"event": "train", **_placed(ranges), **named, **self._tokens_of(ranges)})

    def _tokens_of(self, ranges: Ranges) -> dict[str, str]:
        return {"tokens": digest.of_tokens(self._host, ranges)}

    def _write(self, event: Event) -> None:
        if self._held is not None:
            self._held.append(event)
            return
        self._waiting.append(event)
        if len(self._waiting) >= _MOST_WAITING or not any(map(_unread, self._waiting)):
            self.flush()


def _unread(event: Event) -> bool:
    """Whether a hash of the event is still on a device."""
    return any(isinstance(value, digest.Later) for value in event.values())


def _read(event: Event) -> Event:
    """The event as plain values; waits for its hashes."""
    return {name: value.text if isinstance(value, digest.Later) else value for name, value in event.items()}


def _placed(ranges: Ranges) -> dict[str, Any]:
    hull = {"start": min(start for start, _ in ranges), "stop": max(stop for _, stop in ranges)}
    return hull if len(ranges) == 1 else hull | {"ranges": [list(each) for each in ranges]}


def ranges_of(event: Event) -> list[tuple[int, int]]:
    """The ranges of targets in a record of scoring or training."""
    ranges = event["ranges"] if "ranges" in event else [[event["start"], event["stop"]]]
    return [(start, stop) for start, stop in ranges]


def cuts_of(events: Iterable[Event]) -> dict[tuple[str, int], int]:
    """The cuts made for the time limit (`Ledger.cut`): the amount done, by `what` and `place`."""
    return {(event["what"], event["place"]): event["done"] for event in events if event["event"] == "limit"}


def read(path: Path) -> list[Event]:
    """The records of a ledger's file, in order.

    Raises:
        InputError: the file is missing, or a line is no record.
    """
    events = []
    lines = read_bytes(path, "the ledger of a run is needed", _MOST_BYTES).splitlines()
    with json_files.without_collection():
        for number, line in enumerate(lines, 1):
            event = json_files.quick(line)
            if event is None:
                event = json_files.parse(line, f"{path}: line {number}")
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                raise InputError(f"{path}: line {number}: is no record of a ledger")
            events.append(event)
    return events
