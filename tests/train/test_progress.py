"""What a training says: lines that can be grepped, a record of every step, and the live line."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golf_fast.config import TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.runs.schedule import RecordedSchedule
from golf_fast.train.clock import Clock
from golf_fast.train.loss_monitor import LossMonitor
from golf_fast.train.progress import Progress, _short
from golf_fast.train.schedule import Rates, ReplayedSchedule, Schedule

CONFIG = TrainConfig(max_steps=100, max_seconds=60.0, batch_tokens=2048, micro_batches=1)


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.metrics: list[dict[str, Any]] = []
        self.shown: list[tuple[str, float, float, str]] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def metric(self, **fields: object) -> None:
        self.metrics.append(fields)

    def progress(self, stage: str, done: float, total: float, text: str = "") -> None:
        self.shown.append((stage, done, total, text))


def training(losses: list[float], seconds: float, schedule: Schedule | None = None) -> tuple[Progress, Log]:
    """One that has done as many steps as there are losses, each in that time."""
    monitor, clock, log = LossMonitor([]), Clock(Ranks.single(), lambda: 0.0), Log()
    monitor.losses, monitor.last = list(losses), losses[-1]
    monitor._untold = list(enumerate(losses, 1))
    clock.step_seconds, clock.elapsed = [seconds] * len(losses), seconds * len(losses)
    return Progress(log, CONFIG, schedule or Schedule(CONFIG), clock, monitor), log


def test_a_line_has_fields_that_can_be_grepped() -> None:
    progress, log = training([5.0, 4.0, 3.5], 2.0)
    progress.report(3, Rates(1.0, 0.9), 1_234_567)
    fields = dict(re.findall(r"(\w+):(\S+)", log.lines[0]))
    assert fields.pop("smoothed_loss") == f"{progress._smoothed():.4f}"
    assert fields == {
        "step": "3/100",
        "train_loss": "3.5000",
        "train_time": "6000ms",
        "step_avg": "2000.00ms",
        "tokens_per_second": "1024",
        "last_step": "30",
        "seconds_left": "54",
        "artifact": "about",
    }
    assert log.lines[0].endswith("artifact:about 1,234,567 bytes")
    assert log.lines[0].isprintable()


def test_every_step_has_a_record_once() -> None:
    progress, log = training([5.0, 4.0, 3.5], 2.0)
    progress.report(3, Rates(1.0, 0.9))
    progress.report(3, Rates(1.0, 0.9))
    steps = [metric for metric in log.metrics if metric["kind"] == "step"]
    assert steps == [{"kind": "step", "step": step, "loss": loss} for step, loss in ((1, 5.0), (2, 4.0), (3, 3.5))]


def test_the_live_line_says_where_it_is_and_where_it_will_end() -> None:
    progress, log = training([4.0] * 10, 0.5)
    progress.report(10, Rates(1.0, 0.9), 1_230_000)
    progress.live(10)
    assert log.shown == [("train", 5.0, 50.0, "10/100 loss 4.000 ~4.000 500 ms 4.10k tok/s 1.23 MB")]


def test_before_the_first_step_is_timed_no_speed_is_said() -> None:
    progress, log = training([4.0], 0.0)
    progress._clock.step_seconds = []
    progress.live(1)
    assert log.shown == [("train", 0.0, 0.0, "1/100 loss 4.000 ~4.000")]


def test_the_smoothed_loss_is_the_mean_with_weights_that_fall() -> None:
    losses = np.random.default_rng(0).normal(4, 1, 200)
    progress, _ = training(losses[:100].tolist(), 0.5)
    progress._smoothed()
    progress._monitor.losses += losses[100:].tolist()
    weights = np.exp(-np.arange(200)[::-1] / 25)
    assert progress._smoothed() == pytest.approx((losses * weights).sum() / weights.sum())


@pytest.mark.parametrize(
    ("changes", "seconds", "last"),
    [({}, 2.0, 30), ({}, 0.1, 100), ({"max_seconds": 0.0}, 9.0, 100), ({}, 0.0, 100), ({"max_seconds": 1.0}, 2.0, 3)],
)
def test_the_last_step_is_by_steps_or_by_the_clock(changes: dict[str, Any], seconds: float, last: int) -> None:
    schedule = Schedule(replace(CONFIG, **changes))
    assert schedule.predicted_last_step(3, 3 * seconds, seconds) == last


def test_a_replay_knows_its_last_step(tmp_path: Path) -> None:
    schedule = ReplayedSchedule(replace(CONFIG, replay_schedule=tmp_path), RecordedSchedule(7, [1.0] * 7, [0.9] * 7))
    assert schedule.predicted_last_step(3, 1e9, 1.0) == 7


def test_numbers_are_short() -> None:
    assert [_short(number) for number in (7, 999, 9447.9, 94479, 9_251_905, math.pi * 1e7)] == [
        "7",
        "999",
        "9.45k",
        "94.5k",
        "9.25M",
        "31.4M",
    ]
