"""What a run stores so that it can be resumed: the product of each finished stage, and the time that stages took.

It is in the folder `resume` of the run's directory: a record (`golf_fast.resume_records`) of each product,
`stages.jsonl` with the beginning and end of every stage, and the checkpoints of the training. Rank 0 writes it; all
ranks read it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from golf_fast import json_files, machine, resume_records
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.files import reason, sha256, write_all
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.findings import ADAPTING, AFTER, BEFORE
from golf_fast.pipeline.inputs import Inputs
from golf_fast.report import RunLog
from golf_fast.runs import RunPaths
from golf_fast.train import checkpoint
from golf_fast.train.checkpoint import Checkpoint

BEAT_SECONDS = 0.5
"""Seconds between two signs of life of a run; the recorded time of a killed run may be short by this much."""
RUN, TRAINED, COMPRESSED, COSTS = "run", "trained", "compressed", "costs"
PRODUCT_OF = {
    "train": TRAINED,
    "compress": COMPRESSED,
    "what compression cost": COSTS,
    BEFORE: "before",
    AFTER: "after",
    ADAPTING: "adapting",
}
"""Name of the record of each stage's product, by stage and in order."""
PRODUCTS = (RUN, *PRODUCT_OF.values())
"""Names of the records, in the order in which they are made."""
_NEEDED = "the record of a run is needed"


@dataclass(frozen=True)
class Cut:
    """Where a run was cut short.

    Attributes:
        stage: the stage that was running; "" between two stages.
        ended: when the run last gave a sign of life, in seconds since the epoch.
        lost: seconds of work that have to be repeated.
    """

    stage: str
    ended: float
    lost: float


class StageProducts:
    """The products of a run's finished stages, and how long the stages took.

    A run does not depend on them: where one cannot be written, that is logged and the run continues.
    """

    def __init__(self, paths: RunPaths, ranks: Ranks, log: RunLog) -> None:
        self.folder = paths.resume
        self._ranks = ranks
        self._log = log
        self._stages = self.folder / "stages.jsonl"
        self._alive = self.folder / "alive"

    def begin(self, context: Context, inputs: Inputs) -> None:
        """Write the first record of a new run, on rank 0."""
        if self._ranks.main:
            self.keep(RUN, {**_surroundings(context, inputs), "launch": launch()})

    def go_on(self, context: Context, inputs: Inputs) -> None:
        """Check that the run can be resumed here, and log what differs from before.

        Raises:
            InputError: the data are not those that the run began with.
        """
        before, now = resume_records.read(self.folder / RUN).fields, _surroundings(context, inputs)
        if before["data"] != now["data"]:
            raise InputError(
                f"{self.folder.parent}: began with data of fingerprint {before['data']}, and they are {now['data']} "
                "now; put the data back, or make a new run"
            )
        changed = [f"{name}: {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            self._log.line(f"going on elsewhere: {'; '.join(changed)}; the last bits may differ")

    def find(self, name: str, file: Path | None = None) -> resume_records.Record | None:
        """The record of a product if it is complete and undamaged, else None; called by all ranks together.

        Args:
            file: a file that belongs to the product and must be unchanged.
        """
        path, found = self.folder / name, None
        if self._ranks.main and resume_records.marker(path).exists():
            try:
                found = resume_records.read(path)
                if file is not None and sha256(file, _NEEDED) != found.fields["file"]:
                    found = None
                    self._log.line(f"{file}: is not what the run left there; made again")
            except InputError as error:
                found = None
                self._log.line(f"{error}; made again")
        if not self._ranks.broadcast_float(float(found is not None)):
            return None
        return found or resume_records.read(path, check=False)

    def keep(
        self,
        name: str,
        fields: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor] | None = None,
        file: Path | None = None,
    ) -> None:
        """Store a product, on rank 0, and remove the products of later stages, which depend on an earlier version.

        Args:
            file: as for `find`.
        """
        if self._ranks.main:
            for later in PRODUCTS[PRODUCTS.index(name) + 1 :]:
                resume_records.drop(self.folder / later)
            try:
                named = {} if file is None else {"file": sha256(file, _NEEDED)}
                resume_records.write(self.folder / name, {**fields, **named}, tensors)
            except ValueError as error:  # an InputError, or a number that JSON has not
                self._log.line(f"{error}; a run that is cut short would have to make it again")

    def checkpoint(self) -> Checkpoint | None:
        """The newest complete checkpoint, if there is one; later ones are removed. Called by all ranks together."""
        found = checkpoint.newest(self.folder, self._log.line) if self._ranks.main else None
        step = int(self._ranks.broadcast_float(float(found.step if found else -1)))
        if self._ranks.main:
            self.remove_after(step)
        if step < 0:
            return None
        return found or checkpoint.read(self.folder / f"step-{step:08d}", check=False)

    def remove_after(self, step: int) -> None:
        """Remove the checkpoints of later steps."""
        for folder in checkpoint.folders(self.folder):
            if int(folder.name.partition("-")[2]) > step:
                shutil.rmtree(folder, ignore_errors=True)

    def back_to(self, step: int) -> None:
        """Remove everything that was made after the checkpoint of a step."""
        self.remove_after(step)
        for name in PRODUCTS[1:]:
            resume_records.drop(self.folder / name)

    def drop(self) -> None:
        """Remove the folder, when the run has finished."""
        if self._ranks.main:
            resume_records.drop(self.folder / RUN)  # first, because the rest cannot be resumed without it
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record when a stage begins and ends, and give signs of life meanwhile."""
        began = time.time()
        self._note(event="begin", stage=name, time=began)
        with self._living():
            yield
        self._note(event="end", stage=name, seconds=time.time() - began)

    def spent(self, name: str) -> float:
        """Recorded seconds of earlier attempts at a stage that has to be repeated; the same on every rank."""
        events = self._events() if self._ranks.main else []
        ended = [
            float(event["seconds"]) for event in events if event["event"] in ("end", "cut") and event["stage"] == name
        ]
        return self._ranks.broadcast_float(sum(ended))

    def cut(self, start: Checkpoint | None, *, back: bool) -> Cut:
        """Where the run was interrupted; called on the main rank.

        Args:
            start: the checkpoint that training resumes from; None: training starts at step 0, or has finished.
            back: whether everything made after that checkpoint is repeated.
        """
        events = self._events()
        last = events[-1] if events else {}
        within = last.get("event") == "begin"
        stage, began = (str(last["stage"]), float(last["time"])) if within else ("", 0.0)
        ended = began
        with contextlib.suppress(OSError):
            ended = max(ended, self._alive.stat().st_mtime + BEAT_SECONDS)
        taken = float(start.records[0].fields["time"]) if start is not None else 0.0
        if back:
            since = taken
        elif stage in self.done() or not stage:
            since = ended
        else:
            since = max(began, taken)
        return Cut(stage, ended, max(0.0, ended - since))

    def done(self) -> list[str]:
        """The stages whose products are stored."""
        return [stage for stage, product in PRODUCT_OF.items() if resume_records.marker(self.folder / product).exists()]

    def note_cut(self, cut: Cut) -> None:
        """Record where the run was interrupted."""
        self._note(event="cut", stage=cut.stage, seconds=cut.lost)

    @property
    def interruptions(self) -> tuple[int, float]:
        """How often the run was interrupted, and how many seconds of work were repeated."""
        cuts = [float(event["seconds"]) for event in self._events() if event["event"] == "cut"]
        return len(cuts), sum(cuts)

    def _events(self) -> list[dict[str, Any]]:
        if not self._stages.exists():
            return []
        return [event for _, event in json_files.lines(self._stages, _NEEDED, whole=False)]

    def _note(self, **event: Any) -> None:
        if not self._ranks.main:
            return
        try:
            with self._stages.open("ab", buffering=0) as file:
                write_all(file, f"{json.dumps(event)}\n".encode())
        except OSError as error:
            self._log.line(f"{self._stages}: cannot be written ({reason(error)}); the run goes on without it")

    @contextlib.contextmanager
    def _living(self) -> Iterator[None]:
        """Touch a file periodically, which tells when a killed process was last alive."""
        if not self._ranks.main:
            yield
            return
        over = threading.Event()

        def beat() -> None:
            while True:
                with contextlib.suppress(OSError):
                    self._alive.touch()
                if over.wait(BEAT_SECONDS):
                    return

        thread = threading.Thread(target=beat, name="alive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _surroundings(context: Context, inputs: Inputs) -> dict[str, Any]:
    """The environment that the bits of a run depend on besides its configuration."""
    return {
        "data": inputs.dataset.fingerprint,
        "code": context.code.hash,
        "versions": machine.versions(),
        "device": machine.device_name(context.ranks.device),
        "ranks": context.ranks.world_size,
        "threads": torch.get_num_threads(),
    }


def launch() -> list[str] | None:
    """An identity of the torchrun launch that started this process, which does not change when torchrun restarts its
    ranks; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    # The default run id, "none", is the same for every launch; the parent process on this machine is not.
    return [name] if name != "none" else [name, platform.node(), str(os.getppid())]
