"""Predictions of the size: off the clock, or beside a training in a thread."""

import threading
from collections.abc import Mapping

import torch
from helpers.plain_run import MODEL, TRAIN

from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.train import Averages
from golf_fast.train.clock import Clock
from golf_fast.train.forecast import Forecast


def averages() -> tuple[GPT, Averages]:
    model = GPT(MODEL, seed=3)
    made = Averages(model, TRAIN)
    made.update(TRAIN.ema_start_step, 1.0)
    return model, made


def test_a_thread_predicts_from_weights_as_they_were() -> None:
    model, made = averages()
    go_on, seen = threading.Event(), []

    def predict(weights: Mapping[str, torch.Tensor]) -> int:
        assert go_on.wait(10)
        seen.append(weights["tok_emb"].clone())
        return len(seen) * 1000

    forecast = Forecast(predict, Clock(Ranks.single()), main=True, beside=True)
    assert forecast.ask(made) is None
    before = made.weights()["tok_emb"].clone()
    with torch.no_grad():
        model.tok_emb.add_(1.0)
    made.update(TRAIN.ema_start_step + 1, 1.0)
    assert forecast.ask(made) is None, "the first is still at work"
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "forecast":
            thread.join()
    assert forecast.ask(made) == 1000
    assert torch.equal(seen[0], before)
    assert not torch.equal(before, made.weights()["tok_emb"])


def test_without_a_thread_the_clock_stops() -> None:
    _, made = averages()
    time = [0.0]

    def predict(weights: Mapping[str, torch.Tensor]) -> int:
        time[0] += 1000.0
        return 5

    clock = Clock(Ranks.single(), lambda: time[0])
    assert Forecast(predict, clock, main=True, beside=False).ask(made) == 5
    clock.step_issued()
    assert clock.elapsed == 0


def test_only_the_first_rank_predicts() -> None:
    def predict(weights: Mapping[str, torch.Tensor]) -> int:
        raise AssertionError

    _, made = averages()
    for beside in (False, True):
        assert Forecast(predict, Clock(Ranks.single()), main=False, beside=beside).ask(made) is None
