"""Progress of a training run: periodic log lines and metric records, and a live line after every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from golf_fast.config import TrainConfig
from golf_fast.train.clock import Clock
from golf_fast.train.loss_monitor import LossMonitor
from golf_fast.train.schedule import Rates, Schedule

_SMOOTHED_STEPS = 25
"""Time constant of the smoothed loss, in steps: the weight of a loss falls to 1/e after this many."""
_RECENT_STEPS = 20
"""Number of recent steps over which the length of a step is averaged."""


class Log(Protocol):
    """Where the trainer reports to (`golf_fast.report.RunLog` implements it)."""

    def line(self, text: str) -> None: ...
    def metric(self, **fields: object) -> None: ...
    def progress(self, stage: str, done: float, total: float, text: str = "") -> None: ...


class Progress:
    """Reports the progress of a training run; nothing here waits for the device.

    Args:
        log: receives lines, metric records and the live line.
        config: the training settings.
        schedule: predicts the last step.
        clock: the training time and the length of each step.
        monitor: its losses.
    """

    def __init__(self, log: Log, config: TrainConfig, schedule: Schedule, clock: Clock, monitor: LossMonitor) -> None:
        self._log, self._config, self._schedule, self._clock, self._monitor = log, config, schedule, clock, monitor
        self._read, self._total, self._weight = 0, 0.0, 0.0
        self._size: int | None = None

    def report(self, step: int, rates: Rates, size: int | None = None) -> None:
        """Log a line and a metric record of this step, and a loss record of each step since the last report.

        Args:
            rates: the rates of the step.
            size: predicted size of the artifact in bytes, if there is a prediction.
        """
        log, clock, loss = self._log, self._clock, self._monitor.last
        self._size = size or self._size
        for number, of_step in self._monitor.news():
            log.metric(kind="step", step=number, loss=of_step)
        finished = max(len(clock.step_seconds), 1)
        speed = finished * self._config.batch_tokens / clock.elapsed if clock.elapsed else 0.0
        last, left = self._end(step)
        log.line(
            f"step:{step}/{self._config.max_steps} train_loss:{loss:.4f} train_time:{clock.elapsed * 1e3:.0f}ms "
            f"step_avg:{clock.elapsed / finished * 1e3:.2f}ms smoothed_loss:{self._smoothed():.4f} "
            f"tokens_per_second:{speed:.0f} last_step:{last} seconds_left:{left:.0f}"
            + (f" artifact:about {size:,} bytes" if size else "")
        )
        log.metric(
            kind="train",
            step=step,
            seconds=clock.elapsed,
            loss=loss,
            lr_factor=rates.lr_factor,
            momentum=rates.momentum,
            tokens_per_second=speed,
            expected_artifact_bytes=size,
        )

    def validate(self, step: int, validate: Callable[[], tuple[float, float]] | None) -> None:
        """Validate with the clock stopped and log the result, if a validation is due."""
        every = self._config.val_every
        if validate is None or not every or step % every:
            return
        with self._clock.stopped():
            loss, bpb = validate()
        self._log.line(f"step:{step} val_loss:{loss:.4f} val_bpb:{bpb:.4f}")
        self._log.metric(kind="val", step=step, seconds=self._clock.elapsed, loss=loss, bpb=bpb)

    def live(self, step: int) -> None:
        """Update the live line, if there is a terminal."""
        last, left = self._end(step)
        seconds, elapsed = self._step_seconds(), self._clock.elapsed
        text = f"{step}/{last} loss {self._monitor.last:.3f} ~{self._smoothed():.3f}"
        if seconds:
            text += f" {seconds * 1e3:.0f} ms {_short(self._config.batch_tokens / seconds)} tok/s"
        if self._size:
            text += f" {self._size / 1e6:.2f} MB"
        self._log.progress("train", elapsed, elapsed + left, text)

    def _smoothed(self) -> float:
        """Exponential moving average of the losses so far, with bias correction."""
        keep = math.exp(-1 / _SMOOTHED_STEPS)
        for loss in self._monitor.losses[self._read :]:
            self._total, self._weight = keep * self._total + loss, keep * self._weight + 1
        self._read = len(self._monitor.losses)
        return self._total / self._weight if self._weight else self._monitor.last

    def _step_seconds(self) -> float:
        recent = self._clock.step_seconds[-_RECENT_STEPS:]
        return sum(recent) / len(recent) if recent else 0.0

    def _end(self, step: int) -> tuple[int, float]:
        """The predicted last step, and the seconds until it ends."""
        seconds = self._step_seconds()
        last = self._schedule.predicted_last_step(step, self._clock.elapsed, seconds)
        return last, seconds * (last - step)


def _short(number: float) -> str:
    """A number with three or four digits, and "k" or "M" for thousands or millions."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.{2 if number < 10 * unit else 1}f}{letter}"
    return f"{number:.0f}"
