"""What a training says of itself while it runs: lines and records now and then, and a live line after every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from golf_fast.config import TrainConfig
from golf_fast.train.clock import Clock
from golf_fast.train.schedule import Rates, Schedule
from golf_fast.train.watch import Watch

_SMOOTHED_STEPS = 25
"""Steps after which a loss counts for 1/e in the smoothed one."""
_RECENT_STEPS = 20
"""Steps whose mean length and speed are said."""


class Log(Protocol):
    """What the trainer tells while it runs (`golf_fast.report.RunLog` is one)."""

    def line(self, text: str) -> None: ...
    def metric(self, **fields: object) -> None: ...
    def progress(self, stage: str, done: float, total: float, text: str = "") -> None: ...


class Telling:
    """Says how a training goes; nothing of it waits for the device.

    Args:
        log: who is told.
        config: of the training.
        schedule: knows when it will end.
        clock: its seconds and the length of its steps.
        watch: its losses.
    """

    def __init__(self, log: Log, config: TrainConfig, schedule: Schedule, clock: Clock, watch: Watch) -> None:
        self._log, self._config, self._schedule, self._clock, self._watch = log, config, schedule, clock, watch
        self._read, self._total, self._weight = 0, 0.0, 0.0
        self._size: int | None = None

    def report(self, step: int, rates: Rates, size: int | None = None) -> None:
        """A line and a record of this step, and a record of each step since the last.

        Args:
            rates: of the step.
            size: bytes of the artifact that are predicted, if they were asked for.
        """
        log, clock, loss = self._log, self._clock, self._watch.last
        self._size = size or self._size
        for number, of_step in self._watch.news():
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
        """Validate off the clock, and say what that found, if it is time to."""
        every = self._config.val_every
        if validate is None or not every or step % every:
            return
        with self._clock.stopped():
            loss, bpb = validate()
        self._log.line(f"step:{step} val_loss:{loss:.4f} val_bpb:{bpb:.4f}")
        self._log.metric(kind="val", step=step, seconds=self._clock.elapsed, loss=loss, bpb=bpb)

    def live(self, step: int) -> None:
        """The live line, where there is a terminal."""
        last, left = self._end(step)
        seconds, elapsed = self._step_seconds(), self._clock.elapsed
        text = f"{step}/{last} loss {self._watch.last:.3f} ~{self._smoothed():.3f}"
        if seconds:
            text += f" {seconds * 1e3:.0f} ms {_short(self._config.batch_tokens / seconds)} tok/s"
        if self._size:
            text += f" {self._size / 1e6:.2f} MB"
        self._log.progress("train", elapsed, elapsed + left, text)

    def _smoothed(self) -> float:
        """The exponential mean of the losses so far, without the bias of its start."""
        keep = math.exp(-1 / _SMOOTHED_STEPS)
        for loss in self._watch.losses[self._read :]:
            self._total, self._weight = keep * self._total + loss, keep * self._weight + 1
        self._read = len(self._watch.losses)
        return self._total / self._weight if self._weight else self._watch.last

    def _step_seconds(self) -> float:
        recent = self._clock.step_seconds[-_RECENT_STEPS:]
        return sum(recent) / len(recent) if recent else 0.0

    def _end(self, step: int) -> tuple[int, float]:
        """The last step, as it looks now, and the seconds until it has ended."""
        seconds = self._step_seconds()
        last = self._schedule.predicted_last_step(step, self._clock.elapsed, seconds)
        return last, seconds * (last - step)


def _short(number: float) -> str:
    """Three digits or four, and a letter for thousands or millions."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.{2 if number < 10 * unit else 1}f}{letter}"
    return f"{number:.0f}"
