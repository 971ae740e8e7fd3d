"""Reads the directory of a run: checked and typed, each file only when it is needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golf_fast import json_files
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.files import open_regular, read_bytes
from golf_fast.runs import documents, result, schedule, settings
from golf_fast.runs.paths import RunPaths

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from golf_fast.runs.documents import Documents

_NEEDED = "a file that a run left is needed"
_OF_A_STEP = ("train", "val", "step")
"""Kinds of records that belong to a training step."""
_COSTS = "what compression cost"
"""Name of the stage that writes a record for each step of compression and for each tensor."""
_TOKENS_AT_A_TIME = 1 << 24
_MOST_BYTES = 1 << 30
"""Greatest size in bytes of the metrics and of a file of losses; the challenge's text has 62 million tokens."""


class FinishedRun:
    """A reader of the directory of a run; an interrupted run has fewer files.

    Methods raise an `InputError` that names a file which is missing or is not as a run writes it.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = RunPaths(folder)

    @cached_property
    def settings(self) -> settings.Settings:
        """Every setting, and its origin."""
        self._require_there()
        return settings.read(self.paths.config)

    def _require_there(self) -> None:
        folder = self.paths.folder
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "there is no such folder"
            raise InputError(f"{folder}: {found}; name the directory of a run")

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self.settings.config

    def as_written(self, path: Path) -> dict[str, Any]:
        """The object in one of the JSON files, whatever version wrote it; empty if the file does not exist."""
        return json_files.read_object(path, _NEEDED) if path.exists() else {}

    def result(self) -> result.Result:
        """The result: the score, the sizes, and what they depend on."""
        self._require_there()
        return result.read(self.paths.result)

    def schedule(self) -> schedule.RecordedSchedule:
        """The recorded schedule: the rates of every step, and the time budget."""
        return schedule.read(self.paths.schedule)

    def records(self) -> list[dict[str, Any]]:
        """The records of the metrics, in order.

        The partial line that a killed run may leave is skipped, as are records of work that was repeated after the run
        was resumed.
        """
        return self.metrics()[0]

    def metrics(self) -> tuple[list[dict[str, Any]], int]:
        """The `records`, and the number of lines of the file that are not records."""
        path, others = self.paths.metrics, 0
        records: list[dict[str, Any]] = []
        for line in read_bytes(path, _NEEDED, _MOST_BYTES).split(b"\n") if path.exists() else ():
            try:
                record = json_files.parse(line, str(path)) if line.strip() else {}
            except InputError:
                record = None
            if not isinstance(record, dict):
                others += 1
            elif record:
                if record.get("kind") == "resumed":
                    records = [each for each in records if not _made_again(each, record)]
                records.append(record)
        return records, others

    def documents(self) -> documents.Documents:
        """The validation documents: the start and the bytes of each, and the text of some."""
        return documents.read(self.paths.documents)

    def losses_between(self, path: Path, start: int, stop: int) -> npt.NDArray[np.float32]:
        """The losses of targets `start` to `stop` (exclusive) in one of the files of losses; fewer where it ends."""
        import numpy as np

        with open_regular(path, _NEEDED) as file:
            file.seek(4 * start)
            content = file.read(4 * (stop - start))
        return np.frombuffer(content[: len(content) // 4 * 4], dtype="<f4")

    def token_losses(self, *, adapting: bool = True) -> npt.NDArray[np.float32]:
        """The loss of each validation token in nats, `[tokens]`: of the score, or without adapting to the tokens."""
        import numpy as np

        path = self.paths.token_losses if adapting else self.paths.token_losses_before
        content = read_bytes(path, _NEEDED, _MOST_BYTES)
        if len(content) % 4:
            raise InputError(f"{path}: has {len(content)} bytes; a float32 for each token has 4")
        return np.frombuffer(content, dtype="<f4")

    def document_losses(self, of: Documents) -> npt.NDArray[np.float64]:
        """The loss of each document in nats, `[documents]`; the file is read in pieces of whole documents."""
        import numpy as np

        path = self.paths.token_losses
        with open_regular(path, _NEEDED) as file:
            size = file.seek(0, 2)
        if size != 4 * of.targets:
            raise InputError(f"{path}: has {size} bytes; {of.targets} losses have 4 each")
        starts = np.array([*of.starts, of.targets])
        sums = np.empty(len(of.starts))
        first = 0
        while first < len(sums):
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + _TOKENS_AT_A_TIME, side="right")) - 1)
            losses = self.losses_between(path, int(starts[first]), int(starts[last]))
            if len(losses) < starts[last] - starts[first]:
                raise InputError(f"{path}: became shorter while it was read")
            sums[first:last] = np.add.reduceat(losses, starts[first:last] - starts[first], dtype=np.float64)
            first = last
        if not np.isfinite(sums).all():
            raise InputError(f"{path}: holds a loss that is no finite number")
        return sums


def _made_again(record: dict[str, Any], resumed: dict[str, Any]) -> bool:
    """Whether the work of a record was repeated after the run was resumed as `resumed` says."""
    kind, after, done = record.get("kind"), resumed.get("step"), resumed.get("done")
    done = done if isinstance(done, list) else []
    if kind in _OF_A_STEP:
        step = record.get("step")
        return isinstance(after, int) and isinstance(step, int) and step > after
    if kind in ("stage", "repeated"):
        return record.get("name") not in done
    return kind == "gain" or (kind in ("compression", "tensor") and _COSTS not in done)
