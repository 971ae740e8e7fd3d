"""The files of a run and the tokens that it was scored on, each read once; what is missing or changed says why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from golf_fast import json_files
from golf_fast.audit.run.record import checked
from golf_fast.compress import read_artifact
from golf_fast.compress.artifact.container import Artifact
from golf_fast.config import RunConfig
from golf_fast.data import Dataset, Tokenizer, Validation
from golf_fast.data.dataset import find
from golf_fast.data.shards import HEADER_BYTES, Shard, find_shards, side_cars
from golf_fast.errors import InputError
from golf_fast.files import open_regular, reason, sha256
from golf_fast.from_plain import from_plain
from golf_fast.rules import variant_of
from golf_fast.runs import FinishedRun, Result
from golf_fast.runs.documents import Documents
from golf_fast.runs.schedule import RecordedSchedule
from golf_fast.score.ledger import Event, read

Value = TypeVar("Value")
_COMPUTE_DTYPES = ("float64", "float32", "bfloat16", "float16")
_MOST_SHARD_BYTES = HEADER_BYTES + 2 * (2**31 - 1)


@dataclass(frozen=True)
class Missing:
    """The reason why a piece of evidence cannot be used.

    Attributes:
        why: reason, for people.
        absent: whether the file does not exist; else it exists and is not what it should be.
    """

    why: str
    absent: bool = False


class Evidence:
    """A run directory, to be judged. Nothing is written.

    Args:
        folder: directory of the run.
        data: folder with the shards of the run, if they are no longer where they were.

    Raises:
        InputError: the folder has no settings or no result that could be read: it is no run.
    """

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        self.run = FinishedRun(folder)
        self.paths = self.run.paths
        self.config: RunConfig = self.run.config
        self.held: dict[str, Any] = json_files.read_object(self.paths.result, "the result of a run is needed")
        self.result: Result = from_plain(Result, self.held, self.paths.result, lenient=True)
        self._data = data

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """The dtype that the result names; None if no model computes in it."""
        name = self.result.compute_dtype
        return getattr(torch, name) if name in _COMPUTE_DTYPES else None

    @property
    def variant(self) -> str | None:
        """The challenge's name for the data, "" if the data are others; None if the shards are missing."""
        return None if isinstance(self.shards, Missing) else variant_of(self.shards[0].parent.name)

    @cached_property
    def events(self) -> list[Event] | Missing:
        """The records of the ledger, each checked to be one."""
        return _tried(self.paths.ledger, lambda: checked(read(self.paths.ledger), self.paths.ledger))

    @cached_property
    def losses(self) -> npt.NDArray[np.float32] | Missing:
        return _tried(self.paths.token_losses, self.run.token_losses)

    @cached_property
    def losses_before(self) -> npt.NDArray[np.float32] | Missing:
        """The losses without adapting; a run that does not adapt leaves none."""
        return _tried(self.paths.token_losses_before, lambda: self.run.token_losses(adapting=False))

    @cached_property
    def documents(self) -> Documents | Missing:
        return _tried(self.paths.documents, self.run.documents)

    @cached_property
    def schedule(self) -> RecordedSchedule | Missing:
        return _tried(self.paths.schedule, self.run.schedule)

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The records of the metrics, as far as there are any: they accompany a run, and no rule needs them."""
        return self._metrics[0]

    @property
    def doubt_of_metrics(self) -> str:
        """What is wrong with the file of the metrics; "" if nothing is."""
        return self._metrics[1]

    @cached_property
    def _metrics(self) -> tuple[list[dict[str, Any]], str]:
        if not self.paths.metrics.exists():
            return [], "is missing"
        try:
            records, others = self.run.metrics()
        except InputError as error:
            return [], str(error)
        return records, f"{others} lines are no records" if others else ""

    @cached_property
    def machine(self) -> dict[str, Any] | Missing:
        """What the run said of its machine when it began."""
        held = self.run.as_written(self.paths.config).get("machine")
        return held if isinstance(held, dict) else Missing("is not on record; an earlier version wrote the settings")

    @cached_property
    def artifact(self) -> Artifact | Missing:
        return _tried(self.paths.artifact, lambda: read_artifact(self.paths.artifact))

    @cached_property
    def tokenizer(self) -> Tokenizer | Missing:
        return _tried(self.paths.tokenizer, lambda: Tokenizer(self.paths.tokenizer))

    @cached_property
    def dataset(self) -> Dataset | Missing:
        """The training and validation shards that the run had, if they are found and still the same."""
        missing = f"data with the run's fingerprint are neither in {self.config.data.shards} nor in "
        found = find(self.config.data, self.result.data_fingerprint)
        return found or Missing(f"{missing}{self.config.data.built}", absent=True)

    @cached_property
    def shards(self) -> list[Path] | Missing:
        """The validation shards, if they are those that were scored."""
        recorded = self.result.validation_shards
        if not recorded:
            return self.dataset if isinstance(self.dataset, Missing) else self.dataset.val_shards
        found = []
        for name, wanted in {**recorded, **self.result.validation_bytes}.items():
            path = self._data / Path(name).name if self._data else Path(name)
            if (missing := _another(path, wanted)) is not None:
                return missing
            if name in recorded:
                found.append(path)
        beside = _tried(found[0], lambda: side_cars(found))
        if isinstance(beside, Missing) or len(beside) == len(self.result.validation_bytes):
            return beside if isinstance(beside, Missing) else found
        return Missing(f"{found[0].parent}: has {len(beside)} side-cars, the run {len(self.result.validation_bytes)}")

    @cached_property
    def validation(self) -> Validation | Missing:
        """The validation tokens as the run cut them, with the bytes of their side-cars or of the tokenizer."""
        dataset = self._held_out
        if isinstance(dataset, Missing):
            return dataset
        return _tried(dataset.val_shards[0], lambda: dataset.validation(self.config.score.window))

    @cached_property
    def tokens(self) -> npt.NDArray[np.uint16] | Missing:
        """The validation tokens as the run cut them, `[targets + 1]`; also where a side-car does not fit to them."""
        if not isinstance(self.validation, Missing):
            return self.validation.tokens
        dataset = self._held_out
        if isinstance(dataset, Missing):
            return dataset
        return _tried(dataset.val_shards[0], lambda: dataset.val_tokens(self.config.score.window))

    @cached_property
    def _held_out(self) -> Dataset | Missing:
        """The scored shards, with nothing to train on."""
        shards, spoken = self.shards, self.tokenizer
        if isinstance(shards, Missing):
            return shards
        if isinstance(spoken, Missing):
            return spoken
        return Dataset(shards[0].parent.name, [], shards, spoken.path, spoken.vocab_size, "", "")

    @cached_property
    def split(self) -> tuple[list[Path], int] | Missing:
        """All validation shards of the folder that the scored ones lie in, and the targets in them."""
        shards = self.shards
        if isinstance(shards, Missing):
            return shards

        def counted() -> tuple[list[Path], int]:
            whole = find_shards(shards[0].parent, "val")
            return whole, sum(Shard(path).tokens for path in whole) - 1

        return _tried(shards[0].parent, counted)


def _another(path: Path, wanted: str) -> Missing | None:
    """Why a file that was scored on cannot be read again; None: it is the same."""
    try:
        if not path.exists():
            return Missing(f"{path}: is not here; name the folder of the run's shards with --data", absent=True)
        with open_regular(path, "a shard is needed") as file:
            size = os.fstat(file.fileno()).st_size
        digest = sha256(path) if size <= _MOST_SHARD_BYTES else ""
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return Missing(f"{path}: cannot be read ({reason(error)})")
    except InputError as error:
        return Missing(str(error))
    if digest != wanted:
        return Missing(f"{path}: has SHA-256 {digest[:12]}, the run was scored on {wanted[:12]}")
    return None


def _tried(path: Path, make: Callable[[], Value]) -> Value | Missing:
    try:
        return make()
    except InputError as error:
        return Missing(str(error), absent=not os.path.lexists(path))
