"""The context that the stages of a run share: settings, paths, ranks, log, device and backends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import torch

from golf_fast import machine
from golf_fast.code_size import Code
from golf_fast.config import RunConfig, compiles
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.model.backends import require_compute_dtype, require_kernel_shapes, resolve_backends
from golf_fast.runs import RunPaths
from golf_fast.train.progress import Log


class Stage(NamedTuple):
    """A finished stage."""

    name: str
    seconds: float
    bytes: int | None
    """Size of the model after the stage in bytes; None: the stage neither made nor measured one."""
    bpb: float | None
    """Bits per byte of the model after the stage; None: they were not measured."""


class Context:
    """The settings and the environment of a run, which are logged on construction.

    Raises:
        InputError: an op cannot run with the backend that was asked for, or only with its slow reference,
            or its kernels take neither the dtype nor the shapes that were asked for.
    """

    def __init__(self, config: RunConfig, paths: RunPaths, ranks: Ranks, log: Log, code: Code) -> None:
        self.config = config
        self.paths = paths
        self.ranks = ranks
        self.log = log
        self.code = code
        self.stages: list[Stage] = []
        self.dtype, reason = machine.choose_compute_dtype(config.train.compute_dtype, ranks.device)
        log.line(f"compute dtype: {machine.dtype_name(self.dtype)} ({reason})")
        kind = ranks.device.type
        for stage, setting in (("training", config.train.compile), ("scoring", config.score.compile)):
            log.line(f"torch.compile in {stage}: {'yes' if compiles(setting, kind) else 'no'} ({setting}, on {kind})")
        self.backends = resolve_backends(ranks.device)
        require_compute_dtype(ranks.device, self.dtype)
        require_kernel_shapes(ranks.device, config.model)
        for op, backend in self.backends.items():
            log.line(f"{op}: {backend.name}{backend.reason and f' ({backend.reason})'}")  # a built file has no reasons

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, float]]:
        """Time a stage and record it for the final table; the block may set `bytes` and `bpb`."""
        began = time.perf_counter()
        note: dict[str, float] = {}
        yield note
        size = int(note["bytes"]) if "bytes" in note else None
        self.stages.append(Stage(name, time.perf_counter() - began, size, note.get("bpb")))
        self.log.metric(kind="stage", **self.stages[-1]._asdict())

    @contextmanager
    def secondary(self) -> Iterator[None]:
        """Do work that the result does not depend on: a failure is logged, and the run continues."""
        try:
            yield
        except InputError as error:
            self.log.line(f"{error}; the run goes on without it")

    def model(self, embedding_dtype: torch.dtype) -> GPT:
        """A new model with the configuration and the seed of the run, on its device."""
        model = GPT(
            self.config.model,
            compute_dtype=self.dtype,
            embedding_dtype=embedding_dtype,
            seed=self.config.seed,
        )
        return model.to(self.ranks.device)

    @cached_property
    def scored_model(self) -> GPT:
        """The float32 model that calibration and every scoring stage load their weights into."""
        return self.model(torch.float32)
