"""Profiles a range of training steps: a trace file, and a table of the kernels that took the most time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from golf_fast.errors import printable
from golf_fast.files import new_neighbour, replacing
from golf_fast.pipeline.context import Context
from golf_fast.train.clock import Clock

_NAMED = 4
"""Number of kernels in the log line; the table has more."""
_ROWS = 30


class Profiler:
    """Traces the steps `first` to `last` on rank 0. A failure loses the trace and never the run.

    Traced steps take longer, also on the training clock; the clock is stopped while the trace is started and written.

    Args:
        first: the first step that is traced, counted from 1.
        last: the last step that is traced.
    """

    def __init__(self, context: Context, first: int, last: int) -> None:
        self._context, self._first, self._last = context, first, last
        self._profile: profile | None = None
        self._began = False

    def between_steps(self, step: int, clock: Clock) -> None:
        """Start after step `first - 1` and end after step `last`.

        Args:
            step: number of steps that were begun, the same on all ranks.
            clock: the training clock, which is stopped while the trace is written.
        """
        if not self._began and self._first <= step + 1 <= self._last:
            self._began = True
            with clock.stopped(), self._harmless():
                self._start()
        elif self._began and step == self._last:
            with clock.stopped():
                self.end(step)

    def end(self, step: int) -> None:
        """Write the trace up to `step`, if a trace is in progress."""
        if self._profile is not None:
            with self._harmless():
                self._write(step)
        self._profile = None

    def _start(self) -> None:
        if not self._context.ranks.main:
            return
        self._context.log.line(
            f"profile: steps {self._first} to {self._last} are traced, which slows them; compare no times of this run"
        )
        activities = [ProfilerActivity.CPU]
        if self._context.ranks.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        else:  # without CUPTI it has nothing to say but that it starts and stops, on stderr, at level 5
            os.environ.setdefault("KINETO_LOG_LEVEL", "6")
        started = profile(activities=activities)
        started.start()
        self._profile = started

    def _write(self, step: int) -> None:
        context, paths, found = self._context, self._context.paths, self._profile
        assert found is not None
        if context.ranks.device.type == "cuda":
            torch.cuda.synchronize()
        found.stop()
        device = "device" if context.ranks.device.type == "cuda" else "cpu"
        kernels = sorted(found.key_averages(), key=lambda kernel: -_microseconds(kernel, device))
        total = sum(_microseconds(kernel, device) for kernel in kernels) or 1.0
        rows = [
            f"{kernel.key[:80]:80}  {kernel.count:>8}  {_microseconds(kernel, device) / 1e3:>12.3f}  "
            f"{_microseconds(kernel, device) / total:>7.1%}"
            for kernel in kernels[:_ROWS]
        ]
        header = f"{'kernel':80}  {'calls':>8}  {f'{device} ms':>12}  {'share':>7}"
        with replacing(paths.profile_table, "w") as file:
            file.write("\n".join([header, *rows]) + "\n")
        # The profiler compresses a file whose name ends in ".gz".
        temporary = Path(f"{new_neighbour(paths.profile_trace)}.gz")
        try:
            found.export_chrome_trace(str(temporary))
            temporary.replace(paths.profile_trace)
        finally:
            temporary.unlink(missing_ok=True)
        heaviest = ", ".join(
            f"{printable(kernel.key[:60])} {_microseconds(kernel, device) / total:.0%}" for kernel in kernels[:_NAMED]
        )
        context.log.line(f"profile: steps {self._first} to {step}, {total / 1e3:,.0f} ms of {device} time: {heaviest}")
        context.log.line(f"profile: {paths.profile_trace} (open it at ui.perfetto.dev), {paths.profile_table}")

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        """Log a failure of the block instead of raising it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever the profiler throws is not worth a run
            self._profile = None
            self._context.log.line(f"profile: failed ({type(error).__name__}: {error}); the run goes on without it")


def _microseconds(kernel: object, device: str) -> float:
    """Self time of a kernel in microseconds, without the kernels that it calls."""
    return float(getattr(kernel, f"self_{device}_time_total"))
