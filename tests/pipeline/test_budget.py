"""Who gets how much of the time, and what it breaks to take more."""

import math
from dataclasses import replace

import pytest

from golf_fast.config import CompressConfig, RunConfig, TrainConfig
from golf_fast.pipeline.budget import Budget
from golf_fast.runs.schedule import RecordedSchedule
from golf_fast.score.verdict import Facts, judge

CALIBRATED = CompressConfig(quantizer="gptq", calibration_tokens=1000, calibration_seconds=60)


def budget(limit: float = 600.0, compress: CompressConfig = CALIBRATED, gave_up: bool | None = None) -> Budget:
    """Of a run; `gave_up` of one that replays another that did or did not give up."""
    record = None if gave_up is None else RecordedSchedule(1, [1.0], [0.9], gave_up)
    return Budget.of(RunConfig(train=TrainConfig(max_seconds=limit), compress=compress), record)


@pytest.mark.parametrize(
    ("limit", "compress", "kept"),
    [
        (600, CALIBRATED, 60),
        (100, CALIBRATED, 25),  # a quarter at most
        (0, CALIBRATED, 0),
        (600, replace(CALIBRATED, calibration_seconds=0), 0),
        (600, CompressConfig(calibration_seconds=60), 0),  # quantizing reads no training tokens
    ],
)
def test_training_leaves_what_is_kept(limit: float, compress: CompressConfig, kept: float) -> None:
    made = budget(limit, compress)
    assert made.kept == kept
    assert made.for_training == limit - kept


def test_quantizing_gets_what_training_left() -> None:
    made = budget()
    made.trained = 541.5
    assert made.for_quantizing == 58.5
    made.trained = 601.0
    assert made.for_quantizing < 0
    made = budget(limit=0)
    made.trained = 1e6
    assert made.for_quantizing == math.inf


@pytest.mark.parametrize("gave_up", [True, False])
def test_a_replay_does_what_the_first_run_did(gave_up: bool) -> None:
    made = budget(limit=1.0, gave_up=gave_up)
    made.trained = 1000.0
    assert made.gave_up is gave_up
    assert made.for_quantizing == (-1.0 if gave_up else math.inf)


@pytest.mark.parametrize(
    ("trained", "quantized", "violations"),
    [
        (539.0, 61.0, []),
        (539.0, 61.001, ["V9"]),
        (600.0, 0.0, []),
        (600.001, 0.0, ["V11"]),
        (600.001, 5.0, ["V9", "V11"]),
    ],
)
def test_what_is_late_breaks_a_rule(trained: float, quantized: float, violations: list[str]) -> None:
    made = budget()
    made.trained, made.quantized = trained, quantized
    assert made.used == trained + quantized
    facts = Facts(train_limit=made.limit, train_seconds=made.trained, quantize_seconds=made.quantized)
    assert judge([], facts).violations == violations
    unlimited = judge([], replace(facts, train_limit=0.0))
    assert (unlimited.violations, unlimited.legal) == ([], False)


def test_the_times_are_recorded() -> None:
    made = budget()
    made.trained, made.quantized = 540.0, 12.5
    assert vars(made.times()) == {"limit": 600, "kept": 60, "trained": 540.0, "quantized": 12.5}
