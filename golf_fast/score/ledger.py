"""The ledger: what was scored and what was trained on, in order.

It is the only door through which validation tokens reach training, so whether a score is legal is read off what
happened and not off what was configured. `golf_fast.score.verdict` is what reads it.
"""

from __future__ import annotations

import json
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
from golf_fast.score.rows import TokenRows, TrainingRows
from golf_fast.score.verdict import Facts, Verdict, judge

Ranges = Sequence[tuple[int, int]]
"""Ranges of targets, the second number exclusive; target i is token i + 1."""
Event = dict[str, Any]
_MOST_BYTES = 1 << 30


class LegalityError(AssertionError):
    """The program was about to break a rule of scoring on its own. Never the fault of an input."""


class Ledger:
    """One scoring pass over one sequence of tokens.

    Every rank keeps a ledger of the ranges of all ranks together; only one is given a path. The file has one JSON
    object a line, written as it happens (docs/rules.md, "The ledger").
    """

    def __init__(self, path: Path | None = None) -> None:
        """Begin a ledger, in a file if a path is given.

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
        self._done = np.zeros(0, np.bool_)  # of each target, whether it is scored
        self._left = 0  # targets not scored yet
        self._held: list[Event] | None = None
        self.events: list[Event] = []
        """What happened so far: the lines of the file."""

    def begin(self, rows: TokenRows, strategy: str = "off") -> None:
        """Take charge of the tokens to be scored.

        Raises:
            LegalityError: this ledger already has tokens; every pass has a ledger of its own.
        """
        if self._rows is not None:
            raise LegalityError("the ledger already belongs to a pass: a second pass needs its own")
        self._rows = rows
        self._done, self._left = np.zeros(rows.targets, np.bool_), rows.targets
        self._write({"event": "begin", "targets": rows.targets, "strategy": strategy})

    def scored(self, start: int, stop: int, phase: str = "stream", weights: str = "") -> None:
        """Record that the losses of targets `start` to `stop` (exclusive) are fixed, by weights of that hash.

        Raises:
            LegalityError: one of them was scored before, or one on their left was not.
        """
        done = self._all.targets - self._left
        if not 0 <= start < stop <= self._all.targets or not self._done[:start].all() or self._done[start:stop].any():
            raise LegalityError(
                f"targets {start} to {stop} are scored when {done} of {self._all.targets} are: "
                "each is scored once, from left to right"
            )
        self._note_scored([(start, stop)], phase, weights)

    def scored_in_documents(self, ranges: Ranges, phase: str, batch: int, weights: str, adapters: str = "") -> None:
        """Record likewise a range of each document of a batch, which know nothing of each other.

        Raises:
            LegalityError: a range is not within a document, was scored before, or one on its left in the document was
                not.
        """
        begins = True
        for start, stop in ranges:
            first, _ = self._document_of(start, stop)
            begins &= start == first
            if not self._done[first:start].all() or self._done[start:stop].any():
                raise LegalityError(
                    f"targets {start} to {stop} of the document from {first} on are scored when those before them in "
                    "it are: each is scored once, from left to right"
                )
        more = {"batch": batch, "begins": begins} | ({"adapters": adapters} if adapters else {})
        self._note_scored(ranges, phase, weights, more)

    def rows_for_training(self, start: int, count: int, window: int) -> TrainingRows:
        """Hand out `count` rows of `window` tokens, the first row's first target being `start`.

        Raises:
            LegalityError: a target in them is not scored yet, or none is left that the training could help to score.
        """
        return self.rows_of([(start, start + count * window)], window, "stream")

    def rows_of(self, ranges: Ranges, window: int, phase: str) -> TrainingRows:
        """Hand out the rows of `window` tokens of several ranges joined, as `rows_for_training` otherwise."""
        self._require_scored(ranges)
        if self.complete:
            start, stop = ranges[0][0], ranges[-1][1]
            raise LegalityError(f"targets {start} to {stop} are asked for training after the last target was scored")
        self._note_trained(ranges, window, True, phase)
        return TrainingRows(self._all, ranges, window)

    def trained_in_documents(self, ranges: Ranges, phase: str, batch: int) -> None:
        """Record that what adapts to one document each of a batch is trained on the range of it that was scored.

        Raises:
            LegalityError: a target in them is not scored yet, or the document has none left that it could help.
        """
        self._require_scored(ranges)
        for start, stop in ranges:
            if self._document_of(start, stop)[1] == stop:
                raise LegalityError(f"targets {start} to {stop} are the last of their document: nothing follows them")
        self._note_trained(ranges, 0, True, phase, batch)

    def unscored_rows(self, start: int, count: int, window: int) -> TrainingRows:
        """Hand out rows without a check, as `rows_for_training` otherwise. Breaks the rules, and records it (V1)."""
        ranges = [(start, start + count * window)]
        self._require_inside(ranges)
        self._note_trained(ranges, window, False, "published")
        return TrainingRows(self._all, ranges, window)

    def trained_elsewhere(self, tokens: int, hashed: str) -> None:
        """Record that the weights were trained on tokens that are not to be scored."""
        self._write({"event": "adapt", "source": "training", "size": tokens, "tokens": hashed})

    def hold(self) -> None:
        """Keep back what is recorded from now on, until it is known what other ranks did meanwhile."""
        self._held = self._held or []

    @property
    def held(self) -> list[Event]:
        """What was recorded since `hold`."""
        return list(self._held or ())

    def release(self, others: Iterable[Event]) -> None:
        """Record what was held, and what other ranks scored and trained on meanwhile, by the number of their batches.

        Raises:
            LegalityError: as the methods that record it here.
        """
        self.hold()
        for event in others:
            ranges = ranges_of(event)
            if event["event"] == "score":
                named = (event["weights"], event.get("adapters", ""))
                self.scored_in_documents(ranges, event["phase"], event["batch"], *named)
            else:
                self.trained_in_documents(ranges, event["phase"], event["batch"])
        held, self._held = self.held, None
        for event in sorted(held, key=lambda event: int(event["batch"])):
            self._write(event)

    def end(self) -> None:
        """Close the file.

        Raises:
            LegalityError: a target was not scored.
        """
        if not self.complete or self._held is not None:
            done = self._all.targets - self._left
            raise LegalityError(f"{done} of {self._all.targets} targets were scored: all must be")
        verdict = self.verdict
        found = {"legal": not verdict.violations, "violations": verdict.violations}
        self._write({"event": "end", "targets": self._all.targets, **found})
        if self._file is not None:
            self._file.close()

    @property
    def complete(self) -> bool:
        """Whether every target is scored."""
        return self._all.targets > 0 and self._left == 0

    @property
    def verdict(self) -> Verdict:
        """What the records so far say, nothing of the run around them being known."""
        return judge(self.events, Facts())

    @property
    def violations(self) -> list[str]:
        """The rules broken so far, by their number (V1: train, then score)."""
        return self.verdict.violations

    @property
    def legal(self) -> bool:
        """Whether nothing that was recorded breaks a rule."""
        return not self.violations

    @property
    def adapted(self) -> bool:
        """Whether validation tokens were handed out for training (track B) or not (track A)."""
        return any(event["event"] == "train" for event in self.events)

    @cached_property
    def documents(self) -> npt.NDArray[np.int64]:
        """The first target of each document, and after the last the number of targets: `[documents + 1]`.

        A document is from a BOS to the next, whose BOS is its last target.
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

    def _document_of(self, start: int, stop: int) -> tuple[int, int]:
        self._require_inside([(start, stop)])
        place = int(np.searchsorted(self.documents, start, side="right")) - 1
        first, after = int(self.documents[place]), int(self.documents[place + 1])
        if stop > after:
            raise LegalityError(f"targets {start} to {stop} are not within a document: one ends at {after}")
        return first, after

    def _require_inside(self, ranges: Ranges) -> None:
        for start, stop in ranges:
            if not 0 <= start < stop <= self._all.targets:
                raise LegalityError(f"targets {start} to {stop} are not among the {self._all.targets} there are")

    def _require_scored(self, ranges: Ranges) -> None:
        self._require_inside(ranges)
        for start, stop in ranges:
            if not self._done[start:stop].all():
                done = self._all.targets - self._left
                raise LegalityError(f"targets {start} to {stop} are asked for training, but only {done} are scored")

    def _note_scored(self, ranges: Ranges, phase: str, weights: str, more: Event | None = None) -> None:
        for start, stop in ranges:
            self._done[start:stop] = True
            self._left -= stop - start
        named = {"phase": phase, "weights": weights, **(more or {})}
        self._write({"event": "score", **_placed(ranges), **named, **self._tokens_of(ranges)})

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
        self.events.append(event)
        if self._file is None:
            return
        try:
            write_all(self._file, f"{json.dumps(event)}\n".encode())
        except OSError as error:
            raise InputError(
                f"{self._file.name}: cannot be written ({reason(error)}); without it no score is legal, make room"
            ) from error


def _placed(ranges: Ranges) -> dict[str, Any]:
    hull = {"start": min(start for start, _ in ranges), "stop": max(stop for _, stop in ranges)}
    return hull if len(ranges) == 1 else hull | {"ranges": [list(each) for each in ranges]}


def ranges_of(event: Event) -> list[tuple[int, int]]:
    """The ranges of targets that a record of scoring or training names."""
    ranges = event["ranges"] if "ranges" in event else [[event["start"], event["stop"]]]
    return [(start, stop) for start, stop in ranges]


def read(path: Path) -> list[Event]:
    """The records of a ledger's file, in order.

    Raises:
        InputError: the file is missing, or a line is no record.
    """
    events = []
    for number, line in enumerate(read_bytes(path, "the ledger of a run is needed", _MOST_BYTES).splitlines(), 1):
        event = json_files.parse(line, f"{path}: line {number}")
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise InputError(f"{path}: line {number}: is no record of a ledger")
        events.append(event)
    return events
