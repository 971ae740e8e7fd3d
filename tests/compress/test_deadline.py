"""Quantization inside the training time: who looks at the clock and how often, and what is left when it is over."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from golf_fast.compress import Fitter, Quantizer, Stored, dequantize, quantize
from golf_fast.compress.deadline import Check, Deadline, OutOfTime, QuantizedModel
from golf_fast.config import CompressConfig, ModelConfig
from golf_fast.data import Batch
from golf_fast.distributed import Ranks
from golf_fast.model import GPT, upstream
from golf_fast.pipeline.calibration import gram_matrices

MODEL = ModelConfig(
    vocab_size=70, dim=64, layers=2, heads=2, kv_heads=1, mlp_mult=1.0, bigram_buckets=50, bigram_dim=16
)
GPTQ = CompressConfig(quantizer="gptq", calibration_tokens=64, prune_quantile=0, fp16_max_elements=64)


class Looks:
    """Counts; out of time at the last of them."""

    def __init__(self, last: float = math.inf) -> None:
        self.count = 0
        self.last = last

    def __call__(self) -> None:
        self.count += 1
        if self.count >= self.last:
            raise OutOfTime


@pytest.fixture(scope="module")
def model() -> GPT:
    model = GPT(MODEL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    return model


def batches() -> list[Batch]:
    ids = torch.randint(70, (3, 2, 33), generator=torch.Generator().manual_seed(2))
    return [Batch(rows[:, :-1], rows[:, 1:]) for rows in ids]


def test_a_deadline_passes_once_the_time_is_over() -> None:
    assert 0 <= Deadline(1000, Ranks.single()).check() < 1000
    assert Deadline(math.inf, Ranks.single()).check() >= 0
    with pytest.raises(OutOfTime):
        Deadline(-1, Ranks.single()).check()


def test_calibration_looks_before_each_batch_and_leaves_the_model_as_it_was(model: GPT) -> None:
    looks = Looks()
    gram_matrices(model, batches(), Ranks.single(), looks)
    assert looks.count == 3
    with pytest.raises(OutOfTime):
        gram_matrices(model, batches(), Ranks.single(), Looks(2))
    assert model.observer is None


def test_gptq_looks_before_each_group_and_a_fit_before_each_trial(model: GPT) -> None:
    state_dict = upstream.export(model)
    hessians = gram_matrices(model, batches(), Ranks.single())
    looks = Looks()
    quantize(state_dict, GPTQ, hessians, check=looks)
    groups = looks.count
    assert groups > 2
    plain = Looks()
    quantize(state_dict, GPTQ.uncalibrated(), check=plain)
    assert plain.count == 0
    looks = Looks()
    fitted = Fitter(state_dict, {}, 0, hessians, check=looks).fit(replace(GPTQ, target_bytes=40_000))
    assert looks.count > fitted.trials
    with pytest.raises(OutOfTime):
        Fitter(state_dict, {}, 0, hessians, check=Looks(looks.count)).fit(replace(GPTQ, target_bytes=40_000))


@pytest.mark.parametrize(("given", "plain"), [("gptq", "sigma"), ("sigma", "sigma"), ("absmax", "absmax")])
def test_without_training_tokens_there_is_no_gptq_and_no_correction(given: str, plain: str) -> None:
    config = CompressConfig(quantizer=given, low_rank=2, calibration_tokens=64)
    assert config.calibrated
    assert (config.uncalibrated().quantizer, config.uncalibrated().low_rank) == (plain, 0)
    assert not config.uncalibrated().calibrated


def by(config: CompressConfig, model: GPT, limit: float, lines: list[str], last: float = math.inf) -> QuantizedModel:
    """What becomes of the model within `limit` seconds, if calibrating is over at the `last` look."""

    def calibrate(check: Check) -> dict[str, torch.Tensor]:
        looks = Looks(last)

        def both() -> None:
            check()
            looks()

        return gram_matrices(model, batches(), Ranks.single(), both)

    return Quantizer(upstream.export(model), {}, 100, Ranks.single(), lines.append).in_time(config, calibrate, limit)


def same(a: QuantizedModel, b: dict[str, Stored]) -> bool:
    return a.tensors.keys() == b.keys() and all(
        torch.equal(dequantize(a.tensors)[name], values) for name, values in dequantize(b).items()
    )


def test_in_time_it_is_what_was_asked_for(model: GPT) -> None:
    lines: list[str] = []
    found = by(GPTQ, model, 1000, lines)
    assert same(found, quantize(upstream.export(model), GPTQ, found.hessians))
    assert (found.config, found.gave_up, lines) == (GPTQ, False, [])
    assert 0 < found.seconds < 1000
    assert found.hessians


@pytest.mark.parametrize(("limit", "last"), [(-1.0, math.inf), (1000.0, 2)], ids=["before", "while calibrating"])
def test_out_of_time_no_training_token_has_a_part_in_it(model: GPT, limit: float, last: float) -> None:
    lines: list[str] = []
    found = by(GPTQ, model, limit, lines, last)
    assert same(found, quantize(upstream.export(model), GPTQ.uncalibrated()))
    assert (found.config, found.gave_up, found.seconds) == (GPTQ.uncalibrated(), True, 0.0)
    assert not found.hessians
    (line,) = lines
    assert "out of time" in line


def test_without_calibration_the_clock_does_not_matter(model: GPT) -> None:
    lines: list[str] = []
    found = by(GPTQ.uncalibrated(), model, -1, lines)
    assert same(found, quantize(upstream.export(model), GPTQ.uncalibrated()))
    assert (found.gave_up, found.seconds, lines) == (False, 0.0, [])


def test_a_target_that_nothing_meets_is_said(model: GPT) -> None:
    lines: list[str] = []
    by(replace(GPTQ.uncalibrated(), target_bytes=200), model, 1000, lines)
    assert lines[-1] == "no artifact fits 200 bytes with the code's 100"
