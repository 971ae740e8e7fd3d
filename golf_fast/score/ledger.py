"""The ledger: what was scored and what was trained on, in order.

It is the only door through which validation tokens reach training, so whether a score is legal is read off what
happened and not off what was configured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from golf_fast.errors import InputError
from golf_fast.files import reason, write_all
from golf_fast.score.rows import TokenRows, TrainingRows


class LegalityError(AssertionError):
    """The program was about to break a rule of scoring on its own. Never the fault of an input."""


class Ledger:
    """One scoring pass over one sequence of tokens.

    Every rank keeps a ledger of the ranges of all ranks together; only one is given a path. The file has one JSON
    object a line, written as it happens: `{"event": "begin", "targets": N}`; `{"event": "score", "start": a,
    "stop": b}`; `{"event": "train", "start": a, "stop": b, "window": w, "scored": true}`; `{"event": "end",
    "targets": N, "legal": true, "violations": []}`. Ranges count targets, `stop` exclusive; target i is token i + 1.
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
        self._scored = 0  # targets before this one are scored: they are scored from left to right
        self._adapted = False
        self._violations: list[str] = []

    def begin(self, rows: TokenRows) -> None:
        """Take charge of the tokens to be scored.

        Raises:
            LegalityError: this ledger already has tokens; every pass has a ledger of its own.
        """
        if self._rows is not None:
            raise LegalityError("the ledger already belongs to a pass: a second pass needs its own")
        self._rows = rows
        self._write(event="begin", targets=rows.targets)

    def scored(self, start: int, stop: int) -> None:
        """Record that the losses of targets `start` to `stop` (exclusive) are fixed.

        Raises:
            LegalityError: one of them was scored before, or one on their left was not.
        """
        if start != self._scored or not start < stop <= self._all.targets:
            raise LegalityError(
                f"targets {start} to {stop} are scored when those before {self._scored} of {self._all.targets} are: "
                "each is scored once, from left to right"
            )
        self._scored = stop
        self._write(event="score", start=start, stop=stop)

    def rows_for_training(self, start: int, count: int, window: int) -> TrainingRows:
        """Hand out `count` rows of `window` tokens, the first row's first target being `start`.

        Raises:
            LegalityError: a target in them is not scored yet, or none is left that the training could help to score.
        """
        stop = start + count * window
        if stop > self._scored:
            raise LegalityError(f"targets {start} to {stop} are asked for training, but only {self._scored} are scored")
        if self.complete:
            raise LegalityError(f"targets {start} to {stop} are asked for training after the last target was scored")
        return self._hand_out(start, count, window, scored=True)

    def unscored_rows(self, start: int, count: int, window: int) -> TrainingRows:
        """Hand out rows without a check, as `rows_for_training` otherwise. Breaks the rules, and records it (V1)."""
        if "V1" not in self._violations:
            self._violations.append("V1")
        return self._hand_out(start, count, window, scored=False)

    def end(self) -> None:
        """Close the file.

        Raises:
            LegalityError: a target was not scored.
        """
        if not self.complete:
            raise LegalityError(f"{self._scored} of {self._all.targets} targets were scored: all must be")
        self._write(event="end", targets=self._all.targets, legal=self.legal, violations=self.violations)
        if self._file is not None:
            self._file.close()

    @property
    def complete(self) -> bool:
        """Whether every target is scored."""
        return self._scored == self._all.targets

    @property
    def legal(self) -> bool:
        """Whether nothing that was recorded breaks a rule."""
        return not self._violations

    @property
    def violations(self) -> list[str]:
        """The rules broken, by their number (V1: train, then score)."""
        return list(self._violations)

    @property
    def adapted(self) -> bool:
        """Whether validation tokens were handed out for training (track B) or not (track A)."""
        return self._adapted

    @property
    def _all(self) -> TokenRows:
        if self._rows is None:
            raise LegalityError("the ledger has no tokens yet: begin comes first")
        return self._rows

    def _hand_out(self, start: int, count: int, window: int, scored: bool) -> TrainingRows:
        stop = start + count * window
        assert count > 0
        assert 0 <= start < stop <= self._all.targets
        self._adapted = True
        self._write(event="train", start=start, stop=stop, window=window, scored=scored)
        return TrainingRows(self._all, start, count, window)

    def _write(self, **fields: object) -> None:
        if self._file is None:
            return
        try:
            write_all(self._file, f"{json.dumps(fields)}\n".encode())
        except OSError as error:
            raise InputError(
                f"{self._file.name}: cannot be written ({reason(error)}); without it no score is legal, make room"
            ) from error
