"""A loss or a gradient that is no finite number: nothing changes any more, and the run ends with its name."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import plain_run
from helpers.plain_run import MODEL, TRAIN, Lines

from golf_fast.config import TrainConfig
from golf_fast.data import Batches, TokenStream
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.train import Trainer, train
from golf_fast.train.loss_monitor import LossMonitor, NotFiniteError
from golf_fast.train.schedule import Schedule

SINGLE = Ranks.single()
BAD = 3
"""The step whose gradient or loss is no number."""
EMA = replace(TRAIN, warmup_steps=0, ema_start_step=1, log_every=1)
SWA = replace(EMA, ema=False, swa=True, swa_every=1, swa_start_factor=2.0)
NO_AVERAGE_YET = replace(EMA, ema_start_step=BAD)


def infinite_gradient(model: GPT) -> torch.Tensor:
    """0, whose gradient in kv_bank is no number."""
    return torch.sqrt(model.kv_bank.square().sum() * 0)


def trainer(folder: Path, config: TrainConfig, kind: str) -> Trainer:
    model = GPT(MODEL, seed=3)
    calls = []

    def loss(*batch: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        found = model(*batch)
        if len(calls) != BAD or kind == "none":
            return found
        return found + (infinite_gradient(model) if kind == "gradient" else torch.inf)

    stream = TokenStream([plain_run.shard(folder)], MODEL.vocab_size)
    batches = Batches(stream, 0, 1, config.batch_tokens, config.micro_batches, config.seq_len)
    made = Trainer(model, loss, batches, config, SINGLE)
    assert made.accumulation == 1, "the loss must be called once a step"
    return made


def everything(of: Trainer) -> dict[str, torch.Tensor]:
    pieces = {**of.optimizer.state(), **of.averages.state()}
    return {
        **{name: piece.tensor.clone() for name, piece in pieces.items()},
        **{name: parameter.detach().clone() for name, parameter in of.model.named_parameters()},
    }


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("config", [EMA, SWA, NO_AVERAGE_YET], ids=["ema", "swa", "ema begins there"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gradient", r"train_loss is [0-9.]+, and the gradient of kv_bank is not finite at step 3: lower"),
        ("loss", "train_loss is inf at step 3: lower"),
    ],
)
def test_all_is_as_after_the_last_good_step(
    tmp_path: Path, config: TrainConfig, kind: str, said: str, at_once: bool
) -> None:
    good = trainer(tmp_path, replace(config, max_steps=BAD - 1), "none")
    # The rates are those of the longer run.
    rates = Schedule(config)
    schedule = Schedule(replace(config, max_steps=BAD - 1))
    schedule.rates = rates.rates  # type: ignore[method-assign]
    train(good, Lines(), schedule=schedule)

    bad, log, recorded = trainer(tmp_path, config, kind), Lines(), Schedule(config)
    bad.optimizer.reads_at_once = at_once
    with pytest.raises(NotFiniteError, match=said) as error:
        train(bad, log, schedule=recorded)
    assert error.value.step == BAD
    assert recorded.recorded == schedule.recorded
    assert [metric["step"] for metric in log.metrics if metric["kind"] == "step"] == [1, 2]
    expected = everything(good)
    assert everything(bad).keys() == expected.keys()
    for name, tensor in everything(bad).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("at_once", [True, False])
def test_steps_that_were_under_way_change_nothing_either(tmp_path: Path, at_once: bool) -> None:
    """On a GPU the next step is issued before a bad one is noticed."""
    bad = trainer(tmp_path, EMA, "gradient")
    bad.optimizer.reads_at_once = at_once
    schedule = Schedule(EMA)
    for step in range(BAD - 1):
        bad.step(schedule.rates(step, 0.0))
        bad.averages.update(step + 1, 1.0, bad.optimizer.ok)
    before = everything(bad)
    for step in (BAD, BAD + 1):
        bad.step(schedule.rates(step, 0.0))
        bad.averages.update(step, 1.0, bad.optimizer.ok)
    bad.averages.forget(BAD)
    for name, tensor in everything(bad).items():
        assert torch.equal(tensor, before[name]), name


def test_a_bad_warm_up_does_not_stop_the_training(tmp_path: Path) -> None:
    made = trainer(tmp_path, replace(EMA, warmup_steps=BAD), "gradient")
    log = Lines()
    assert train(made, log).steps == len(log.losses()) == TRAIN.max_steps


def test_losses_are_read_when_they_are_there() -> None:
    monitor = LossMonitor(["a", "b"], last=7.0)
    for step in (1, 2, 3):
        monitor.note(step, torch.tensor([0.0, 0.0, step / 2]))
    assert (monitor.last, monitor.news()) == (7.0, [])
    monitor.read(2)
    assert (monitor.last, monitor.losses, monitor.news()) == (1.0, [0.5, 1.0], [(1, 0.5), (2, 1.0)])
    monitor.read(2)
    monitor.read(3)
    assert (monitor.losses, monitor.news()) == ([0.5, 1.0, 1.5], [(3, 1.5)])
    monitor.note(4, torch.tensor([0.0, torch.nan, 1.0]))
    with pytest.raises(NotFiniteError, match="train_loss is 1, and the gradient of b is not finite at step 4"):
        monitor.read(4)
