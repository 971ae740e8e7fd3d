"""Checkpoints of a training run: everything that the next step depends on, taken between two steps and written by a
thread while training continues.

A checkpoint is a folder `step-00000450` with one record (`golf_fast.resume_records`) per rank, `rank-0-of-2`: the state
that only this rank has, and in the record of rank 0 also the state that all ranks share. It is complete when the
records of all ranks exist, so no rank waits for another. A different number of ranks can read it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from golf_fast import resume_records
from golf_fast.config import TrainConfig
from golf_fast.console import Deferral
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.train.clock import Clock
from golf_fast.train.copies import Copies
from golf_fast.train.schedule import Rates, Schedule
from golf_fast.train.state import Piece, within

if TYPE_CHECKING:
    from golf_fast.train.loop import Trainer
    from golf_fast.train.progress import Log

_STEP = re.compile(r"step-(\d{8,})")
_RECORD = re.compile(r"rank-(\d+)-of-(\d+)\.json")
_UNFINISHED = 3
"""Incomplete folders that are left in place at most: another rank may be slower, or write to another file system."""
_WEIGHTS = "model."


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        folder: where it lies.
        records: of each rank that took it.
    """

    folder: Path
    records: list[resume_records.Record]

    @property
    def step(self) -> int:
        """Steps of training before it."""
        return int(self.records[0].fields["step"])

    @property
    def seconds(self) -> float:
        """Seconds of training before it."""
        return float(self.records[0].fields["elapsed"])

    def rows(self, name: str, first: int, count: int) -> torch.Tensor:
        """Rows `[first, first + count)` of a tensor that may be spread over the ranks' records.

        Raises:
            InputError: they are not all there.
        """
        having = [record for record in self.records if name in record.fields["pieces"]]
        found, at = [], first
        for record in sorted(having, key=lambda record: int(record.fields["pieces"][name][0])):
            begin, length = record.fields["pieces"][name]
            start, stop = max(first, begin), min(first + count, begin + length)
            if start < stop and start == at:
                found.append(record.rows(name, start - begin, stop - start))
                at = stop
        if at < first + count or not having:
            raise InputError(f"{self.folder}: holds no rows {first} to {first + count} of {name}")
        if not found:
            return having[0].rows(name, 0, 0)
        return found[0] if len(found) == 1 else torch.cat(found)

    def own(self, name: str, rank: int) -> torch.Tensor:
        """The tensor `name` that `rank` stored for itself; further ranks reuse them in turn."""
        return self.records[rank % len(self.records)].tensor(name)


def read(folder: Path, *, check: bool = True) -> Checkpoint:
    """The checkpoint in a folder.

    Args:
        check: whether the hashes are compared; among several ranks one does it for all.

    Raises:
        InputError: the checkpoint is missing, incomplete or damaged.
    """
    name = _STEP.fullmatch(folder.name)
    sizes = {int(found[2]) for found in _records(folder)}
    if name is None or len(sizes) != 1:
        raise InputError(f"{folder}: is no checkpoint, or half of one; a folder like resume/step-00000450 is needed")
    size = sizes.pop()
    records = [resume_records.read(folder / f"rank-{rank}-of-{size}", check=check) for rank in range(size)]
    try:
        if any(record.fields["step"] != int(name[1]) for record in records):
            raise InputError(f"{folder}: holds the checkpoint of another step")
    except KeyError as error:
        raise InputError(f"{folder}: is no checkpoint of a training; it has no {error}") from error
    return Checkpoint(folder, records)


def folders(resume: Path) -> list[Path]:
    """The folders of checkpoints, whole or not, from the first step to the last."""
    try:
        found = [path for path in resume.iterdir() if _STEP.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def newest(resume: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is complete and undamaged, if there is one.

    Args:
        warn: called with a message for each newer checkpoint that is not.
    """
    for folder in reversed(folders(resume)):
        try:
            return read(folder)
        except InputError as error:
            warn(f"{error}; passed over")
    return None


class Checkpoints:
    """Takes checkpoints of one training run, and restores one at its start.

    Args:
        resume: the folder that holds a folder for each checkpoint; all ranks must see the same.
        config: how often checkpoints are taken, and how many are kept.
        ranks: every rank writes its part of each checkpoint.
        log: receives failures; a run does not depend on its checkpoints.
        deferral: a signal that asks the training to end after the current step.
        start: the checkpoint to resume from; None: training starts at step 0.
        room: bytes of the disk that must stay free for what the run writes later.
    """

    def __init__(
        self,
        resume: Path,
        config: TrainConfig,
        ranks: Ranks,
        log: Log,
        deferral: Deferral,
        start: Checkpoint | None = None,
        room: int = 0,
    ) -> None:
        self._resume = resume
        self._config = config
        self._ranks = ranks
        self._log = log
        self._deferral = deferral
        self._start = start
        self._room = room
        self._taken_at = 0.0
        self._writer: threading.Thread | None = None
        self._failed: str | None = None
        self._last: Path | None = None

    def begin(self, trainer: Trainer, schedule: Schedule, clock: Clock) -> tuple[int, torch.Tensor]:
        """Restore the start checkpoint, if there is one, and defer signals from now on.

        Returns:
            The number of steps done, and this rank's mean loss at the last of them.

        Raises:
            InputError: the checkpoint belongs to another model or another optimizer.
        """
        self._deferral.holding = True
        clock.wanted = lambda: self._deferral.number
        if self._start is None:
            return 0, torch.zeros(())
        _restore(self._start, trainer, schedule, clock, self._ranks)
        self._taken_at = clock.elapsed
        loss = self._start.own("own.loss", self._ranks.rank).reshape(())
        return self._start.step, loss.to(self._ranks.device)

    def after(self, step: int, loss: torch.Tensor, trainer: Trainer, schedule: Schedule, clock: Clock) -> None:
        """Take a checkpoint if one is due; called by all ranks after every step.

        Raises:
            KeyboardInterrupt: a rank received a signal; the checkpoint is on the disk.
        """
        config, number = self._config, clock.wanted_by
        every = config.checkpoint_every and step % config.checkpoint_every == 0
        seconds = config.checkpoint_seconds and clock.elapsed - self._taken_at >= config.checkpoint_seconds
        if every or seconds or number:
            clock.drain()
            self._take(step, loss, trainer, schedule, clock)
            self._taken_at = clock.elapsed
        if number:
            self.close()
            self._deferral.end(number)

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failed is not None:
            self._log.line(f"{self._failed}; the run goes on without this checkpoint")
            self._last = self._failed = None

    def _take(self, step: int, loss: torch.Tensor, trainer: Trainer, schedule: Schedule, clock: Clock) -> None:
        self.close()
        if self._last is not None and self._ranks.main and not _whole(self._last):
            self._log.line(f"{self._last}: not every rank has left its part; do the ranks share {self._resume}?")
        fields, tensors = _state(step, loss, trainer, schedule, clock, self._ranks)
        try:
            copies = Copies(tensors)
        except (RuntimeError, MemoryError) as error:  # a device without room for them raises the first
            self._last, self._failed = None, f"step {step}: {str(error).partition(chr(10))[0]}"
            return
        folder = self._last = self._resume / f"step-{step:08d}"

        def write() -> None:
            try:
                self._write(folder, fields, copies.on_host())
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                self._failed = f"{folder}: {error}" if not isinstance(error, InputError) else str(error)

        self._writer = threading.Thread(target=write, name="checkpoint")
        self._writer.start()

    def _write(self, folder: Path, fields: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        if not all(bool(torch.isfinite(t).all()) for name, t in tensors.items() if name.startswith(_WEIGHTS)):
            raise InputError(f"{folder}: not written, the weights are no numbers")
        size = sum(tensor.nbytes for tensor in tensors.values())
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < size + self._room:
            raise InputError(
                f"{folder}: not written, its disk has {free:,} bytes left; it takes {size:,} and the rest of the run "
                f"about {self._room:,}"
            )
        resume_records.write(folder / f"rank-{self._ranks.rank}-of-{self._ranks.world_size}", fields, tensors)
        self._prune()

    def _prune(self) -> None:
        """Remove the checkpoints that newer ones replace."""
        there, most = folders(self._resume), self._config.checkpoint_keep
        whole = [folder for folder in there if _whole(folder)]
        last = whole[-most:]
        for folder in there:
            old = len(whole) >= most and folder < last[0]
            if (old and self._ranks.main) or folder in there[: -most - _UNFINISHED]:
                shutil.rmtree(folder, ignore_errors=True)


def _state(
    step: int, loss: torch.Tensor, trainer: Trainer, schedule: Schedule, clock: Clock, ranks: Ranks
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The plain values of a rank's record, and its tensors, which are the ones that training updates in place."""
    pieces = {name: piece for name, piece in _pieces(trainer).items() if ranks.main or len(piece.tensor) < piece.rows}
    tensors = {name: piece.tensor for name, piece in pieces.items()}
    tensors["own.loss"] = loss.detach().reshape(1)
    tensors["own.random"] = torch.get_rng_state()
    if ranks.device.type == "cuda":
        tensors["own.random_cuda"] = torch.cuda.get_rng_state(ranks.device)
    fields: dict[str, Any] = {
        "step": step,
        "pieces": {name: (piece.first, len(piece.tensor)) for name, piece in pieces.items()},
    }
    if ranks.main:
        fields |= {
            "elapsed": clock.elapsed,
            "step_seconds": list(clock.step_seconds),
            "batches": trainer.batches.state(),
            "rates": _columns(schedule.recorded),
            "time": time.time(),
        }
    return fields, tensors


def _pieces(trainer: Trainer) -> dict[str, Piece]:
    weights = {f"{_WEIGHTS}{name}": Piece.whole(parameter) for name, parameter in trainer.model.named_parameters()}
    averages = {f"averages.{name}": piece for name, piece in trainer.averages.state().items()}
    return {**weights, **averages, **trainer.optimizer.state()}


@torch.no_grad()
def _restore(start: Checkpoint, trainer: Trainer, schedule: Schedule, clock: Clock, ranks: Ranks) -> None:
    for name, parameter in trainer.model.named_parameters():
        Piece.whole(parameter).fill(f"{_WEIGHTS}{name}", start.rows)
    trainer.averages.load(within("averages", start.rows))
    trainer.optimizer.load(start.rows)
    torch.set_rng_state(start.own("own.random", ranks.rank))
    if ranks.device.type == "cuda":
        with contextlib.suppress(InputError):  # it was taken on a CPU
            torch.cuda.set_rng_state(start.own("own.random_cuda", ranks.rank), ranks.device)
    fields = start.records[0].fields
    trainer.batches.restore(fields["batches"])
    schedule.recorded[:] = _rows(fields["rates"])
    clock.go_on(fields["elapsed"], fields["step_seconds"])


def _columns(rates: list[Rates]) -> dict[str, list[Any]]:
    return {field.name: [getattr(each, field.name) for each in rates] for field in dataclasses.fields(Rates)}


def _rows(columns: dict[str, list[Any]]) -> Iterator[Rates]:
    return (Rates(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True))


def _records(folder: Path) -> list[re.Match[str]]:
    with contextlib.suppress(OSError):
        return [found for path in folder.iterdir() if (found := _RECORD.fullmatch(path.name))]
    return []


def _whole(folder: Path) -> bool:
    """Whether the records of all ranks exist; their content is not checked."""
    by_size: defaultdict[int, set[int]] = defaultdict(set)
    for found in _records(folder):
        by_size[int(found[2])].add(int(found[1]))
    return any(len(ranks) == size for size, ranks in by_size.items())
