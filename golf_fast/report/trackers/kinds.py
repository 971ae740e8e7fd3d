"""The supported trackers. The package of a tracker is imported only when a run asks for it."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from golf_fast.errors import InputError
from golf_fast.runs import RunPaths

_PROJECT = "golf_fast"


class Tracker(Protocol):
    """Is told numbers, in the order in which they are known; whatever it raises costs the tracker and not the run."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a training step; a step may come again with others."""

    def close(self) -> None:
        """Write or send what is held."""


class TensorBoard:
    """Event files below the run directory, for `tensorboard --logdir`; by the tensorboard package, without torch."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(RunPaths(folder).events))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        values_of = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        event = self._event(wall_time=time.time(), step=step, summary=self._summary(value=values_of))
        self._writer.add_event(event)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Weights & Biases: a run of the project WANDB_PROJECT, or golf_fast; WANDB_MODE=offline keeps it in the run
    directory."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self._wandb = wandb
        quiet = wandb.Settings(console="off", silent=True)
        wandb.setup(settings=quiet)  # silent, it asks nobody for a key, which would take the terminal from the run
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            name=folder.name,
            dir=str(folder),
            config=dict(settings),
            settings=quiet,
        )
        # Numbers of an earlier step may come late, which its own counter of steps does not take.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()
        self._wandb.teardown()  # its own process has written all only when it has ended


class Trackio:
    """trackio: a run of the project TRACKIO_PROJECT, or golf_fast, in the folder TRACKIO_DIR on this machine."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        import trackio

        self._trackio = trackio
        project = os.environ.get("TRACKIO_PROJECT") or _PROJECT
        trackio.init(project=project, name=folder.name, config=dict(settings), embed=False)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        self._trackio.finish()


KINDS: dict[str, type[TensorBoard] | type[Wandb] | type[Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}
"""Name of the tracker, which is that of its package -> how it is told."""
NAMES = tuple(KINDS)


def require_installed(names: Iterable[str]) -> None:
    """Let a run that asks for trackers know before its training whether they are there.

    Raises:
        InputError: the package of one is not installed; says how to get it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(f'track: {name} is not installed: pip install "{name}", or "golf_fast[track]" for all')
