"""The schedule and the clock, with a clock that the test turns."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from golf_fast.config import TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.runs import RunPaths
from golf_fast.runs.schedule import Times
from golf_fast.train.clock import Clock
from golf_fast.train.schedule import Rates, Schedule, lr_factor, make_schedule, muon_momentum

CONFIG = TrainConfig()


class FakeTime:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(
    ("elapsed", "step", "expected"),
    [
        (0.0, 0, 1.0),  # nothing is known of the speed
        (300.0, 3000, 1.0),  # 0.1 s a step: the warmdown begins exactly where 300 s are left
        (450.0, 4500, 0.5),
        (599.9, 5999, 0.1 / 299.99),
        (600.0, 6000, 0.0),
        (700.0, 7000, 0.0),
        (60.0, 6, 540 / 30000),  # so slow that the warmdown is longer than the run
    ],
)
def test_factor_with_a_time_limit(elapsed: float, step: int, expected: float) -> None:
    # r / (3000 s) with s = elapsed / step; at (599.9, 5999) s is 0.1 to five digits.
    assert lr_factor(elapsed, step, 600, 20000, 3000) == pytest.approx(expected, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (17000, 1.0), (18500, 0.5), (19999, 1 / 3000), (20001, 0.0)])
def test_factor_without_a_time_limit(step: int, expected: float) -> None:
    assert lr_factor(1e9, step, 0, 20000, 3000) == pytest.approx(expected)


def test_no_warmdown_keeps_the_rate() -> None:
    assert lr_factor(599, 10, 600, 20000, 0) == 1.0
    assert lr_factor(599, 19999, 0, 20000, 0) == 1.0


def test_momentum_rises_to_its_final_value() -> None:
    assert muon_momentum(0, CONFIG) == pytest.approx(0.92)
    assert muon_momentum(750, CONFIG) == pytest.approx(0.955)
    assert muon_momentum(1500, CONFIG) == muon_momentum(9999, CONFIG) == pytest.approx(0.99)
    assert muon_momentum(0, replace(CONFIG, muon_momentum_warmup_steps=0)) == pytest.approx(0.99)


def train_with(step_lengths: Callable[[int], float], config: TrainConfig) -> tuple[int, float, Schedule]:
    """Play a run whose step n takes `step_lengths(n)` seconds: steps done, seconds used, the schedule."""
    time = FakeTime()
    clock = Clock(Ranks.single(), time)
    schedule = Schedule(config)
    step = 0
    while not schedule.is_over(step, clock.elapsed, clock.step_seconds, clock.in_flight):
        schedule.record(schedule.rates(step, clock.elapsed))
        time.seconds += step_lengths(step)
        step += 1
        clock.step_issued()
    return step, clock.elapsed, schedule


def test_a_run_stops_before_the_step_that_would_end_past_the_limit() -> None:
    steps, seconds, schedule = train_with(lambda step: 0.09, replace(CONFIG, max_seconds=60, warmdown_steps=100))
    assert steps == 666
    assert seconds == pytest.approx(666 * 0.09)
    factors = [rates.lr_factor for rates in schedule.recorded]
    assert factors[:560] == [1.0] * 560
    assert factors[600] == pytest.approx((60 - 600 * 0.09) / 9)
    assert factors[-1] == pytest.approx((60 - 665 * 0.09) / 9)


def test_a_slower_step_does_not_carry_a_run_past_its_limit() -> None:
    # Every fifth step takes twice as long: the prediction is the longest of the last steps.
    _, seconds, _ = train_with(lambda step: 0.2 if step % 5 == 0 else 0.1, replace(CONFIG, max_seconds=10))
    assert 9.7 < seconds <= 10


def test_the_step_limit_ends_a_run_that_has_time() -> None:
    assert train_with(lambda step: 0.001, replace(CONFIG, max_steps=7))[0] == 7
    assert train_with(lambda step: 1e6, replace(CONFIG, max_steps=7, max_seconds=0))[0] == 7


def test_time_off_the_clock_does_not_count() -> None:
    time = FakeTime()
    clock = Clock(Ranks.single(), time)
    time.seconds += 2
    clock.step_issued()
    with clock.stopped():
        time.seconds += 1000
    time.seconds += 3
    clock.step_issued()
    assert clock.elapsed == 5
    assert clock.step_seconds == [2, 3]


def test_a_recorded_schedule_is_replayed_to_the_last_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lengths = torch.rand(1000).tolist()
    steps, _, schedule = train_with(lambda step: lengths[step], replace(CONFIG, max_seconds=30, warmdown_steps=20))
    schedule.as_recorded().write(RunPaths(tmp_path).schedule)
    replayed = make_schedule(replace(CONFIG, replay_schedule=tmp_path))
    assert [replayed.rates(step, 12345.0) for step in range(steps)] == schedule.recorded
    assert not replayed.is_over(steps - 1, 1e9, [1e9], 1)
    assert replayed.is_over(steps, 0.0, [], 0)


GROWING = replace(
    CONFIG, max_steps=40, max_seconds=20.0, seq_len=128, seq_growth=(32, 64), seq_growth_until=(0.1, 0.7),
    batch_tokens=1024, seq_ramp_steps=4, warmdown_steps=0,
)  # fmt: skip


def test_rows_grow_with_the_clock_and_the_rates_rise_again() -> None:
    _, _, schedule = train_with(lambda step: 0.5, GROWING)
    lengths = [rates.seq_len for rates in schedule.recorded]
    assert lengths == [32] * 4 + [64] * 24 + [128] * 12
    factors = [rates.lr_factor for rates in schedule.recorded]
    assert factors[:9] == [1, 1, 1, 1, 0.25, 0.5, 0.75, 1, 1]
    assert factors[27:33] == [1, 0.25, 0.5, 0.75, 1, 1]
    by_steps = train_with(lambda step: 9.0, replace(GROWING, max_seconds=0.0, seq_ramp_steps=0))[2].recorded
    assert [rates.seq_len for rates in by_steps] == lengths
    assert {rates.lr_factor for rates in by_steps} == {1.0}


def test_the_warm_up_has_each_length() -> None:
    assert [rates.seq_len for rates in Schedule(GROWING).warm_up_rates()] == [32, 64, 128]
    assert Schedule(CONFIG).warm_up_rates() == [Rates(1.0, pytest.approx(0.92), 2048)]


def test_growing_rows_are_replayed(tmp_path: Path) -> None:
    steps, _, schedule = train_with(lambda step: 0.5, GROWING)
    record = schedule.as_recorded()
    assert (record.rows_from, record.row_lengths) == ((0, 4, 28), (32, 64, 128))
    record.write(RunPaths(tmp_path).schedule)
    replayed = make_schedule(replace(CONFIG, batch_tokens=1024, seq_len=64, replay_schedule=tmp_path))
    assert [replayed.rates(step, 0.0) for step in range(steps)] == schedule.recorded
    assert [rates.seq_len for rates in replayed.warm_up_rates()] == [32, 64, 128]
    with pytest.raises(InputError, match=r"train\.batch_tokens is 512: it must be a multiple of 128 \* micro_batches"):
        make_schedule(replace(CONFIG, batch_tokens=512, seq_len=64, replay_schedule=tmp_path))


def test_the_loop_is_turned_on_by_the_clock_and_replayed_by_the_step(tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=40, max_seconds=20.0, loop_at=0.35)
    steps, _, schedule = train_with(lambda step: 0.5, config)
    assert [rates.looped for rates in schedule.recorded] == [False] * 14 + [True] * 26
    by_steps = train_with(lambda step: 9.0, replace(config, max_seconds=0.0))[2].recorded
    assert [rates.looped for rates in by_steps] == [False] * 14 + [True] * 26
    assert all(rates.looped for rates in train_with(lambda step: 0.5, replace(config, loop_at=0.0))[2].recorded)
    record = schedule.as_recorded()
    assert record.loop_from == 14
    record.write(RunPaths(tmp_path).schedule)
    replayed = make_schedule(replace(CONFIG, replay_schedule=tmp_path))
    assert [replayed.rates(step, 0.0) for step in range(steps)] == schedule.recorded


def test_windows_grow_with_the_clock_and_are_replayed(tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=40, max_seconds=20.0, window_growth=(128, 256), window_growth_until=(0.1, 0.7))
    steps, _, schedule = train_with(lambda step: 0.5, config)
    assert [rates.window for rates in schedule.recorded] == [128] * 4 + [256] * 24 + [0] * 12
    assert [rates.window for rates in schedule.warm_up_rates()] == [128, 256, 0]
    record = schedule.as_recorded()
    assert (record.windows_from, record.windows) == ((0, 4, 28), (128, 256, 0))
    record.write(RunPaths(tmp_path).schedule)
    replayed = make_schedule(replace(CONFIG, replay_schedule=tmp_path))
    assert [replayed.rates(step, 0.0) for step in range(steps)] == schedule.recorded
    assert [rates.window for rates in replayed.warm_up_rates()] == [128, 256, 0]


def test_the_warm_up_is_without_the_loop_and_with_it() -> None:
    both = replace(GROWING, loop_at=0.5, seq_growth=(64,), seq_growth_until=(0.2,))
    shapes = [(rates.looped, rates.seq_len) for rates in Schedule(both).warm_up_rates()]
    assert shapes == [(False, 64), (False, 128), (True, 64), (True, 128)]
    assert [rates.looped for rates in Schedule(CONFIG).warm_up_rates()] == [True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loop_at": 1.1}, r"train\.loop_at is 1\.1: it must be from 0 to 1"),
        (
            {"seq_growth": (48,)},
            r"train\.batch_tokens is 1024: it must be a multiple of seq_growth \* micro_batches = 48",
        ),
        ({"seq_growth": (0,)}, r"train\.seq_growth is 0: it must be more than 0"),
        ({"seq_growth_until": (0.1,)}, r"train\.seq_growth_until is 0\.1: it must be as many rising shares"),
        ({"seq_growth_until": (0.7, 0.1)}, r"train\.seq_growth_until is 0\.7 0\.1: "),
        ({"seq_growth_until": (0.1, 1.0)}, r"train\.seq_growth_until is 0\.1 1\.0: "),
        ({"warmdown_frac": 1.5}, r"train\.warmdown_frac is 1\.5: it must be from 0 to 1"),
        ({"min_lr": -0.1}, r"train\.min_lr is -0\.1"),
        ({"table_weight_decay": -1.0}, r"train\.table_weight_decay is -1\.0: it must be 0 or more, or None"),
        ({"seq_ramp_steps": -1}, r"train\.seq_ramp_steps is -1"),
        ({"window_growth": (0,), "window_growth_until": (0.5,)}, r"train\.window_growth is 0: it must be from 1 to"),
        ({"window_growth": (8,)}, r"train\.window_growth_until is empty: it must be as many rising shares"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(GROWING, **changes)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"steps": 2, "lr_factor": [1.0], "momentum": [0.9]}',
        '{"steps": 0, "lr_factor": [], "momentum": []}',
        '{"steps": Infinity, "lr_factor": [1.0], "momentum": [0.9]}',
        '{"steps": 1.0, "lr_factor": [1.0], "momentum": [0.9]}',
        '{"steps": true, "lr_factor": [1.0], "momentum": [0.9]}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [2]}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [1.0]}',
        '{"steps": 1, "lr_factor": [-0.5], "momentum": [0.9]}',
        '{"steps": 1, "lr_factor": [1e300], "momentum": [0.9]}',
        '{"steps": 1, "lr_factor": [1e999], "momentum": [0.9]}',
        '{"steps": 1, "lr_factor": [NaN], "momentum": [0.9]}',
        '{"steps": 1, "lr_factor": ["1"], "momentum": [0.9]}',
        '{"steps": 1, "lr_factor": "1", "momentum": "0"}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "gave_up_calibration": "no"}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "gave_up": true}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "rows_from": [1], "row_lengths": [32]}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "rows_from": [0], "row_lengths": []}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "rows_from": [0, 0], "row_lengths": [32, 64]}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "rows_from": [0], "row_lengths": [0]}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "rows_from": 0, "row_lengths": [32]}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "windows_from": [0], "windows": [-1]}',
        '{"steps": 2, "lr_factor": [1, 1], "momentum": [0.9, 0.9], "windows_from": [0, 2], "windows": [1, 0]}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "loop_from": 2}',
        '{"steps": 1, "lr_factor": [1.0], "momentum": [0.9], "loop_from": true}',
    ],
)
def test_what_is_no_schedule_is_one_clear_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "schedule.json").write_text(content)
    with pytest.raises(InputError, match=r"schedule\.json: "):
        make_schedule(replace(CONFIG, replay_schedule=tmp_path))


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    schedule = Schedule(CONFIG)
    schedule.record(Rates(0.25, 0.95))
    schedule.as_recorded(budget=Times(600, 60, 530.5, 20)).write(RunPaths(tmp_path).schedule)
    assert json.loads((tmp_path / "schedule.json").read_text()) == {
        "steps": 1,
        "lr_factor": [0.25],
        "momentum": [0.95],
        "gave_up_calibration": False,
        "budget": {"limit": 600, "kept": 60, "trained": 530.5, "quantized": 20},
        "rows_from": [],
        "row_lengths": [],
        "loop_from": 0,
        "windows_from": [],
        "windows": [],
    }
