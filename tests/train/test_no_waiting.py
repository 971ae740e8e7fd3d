"""The update reads no number of the device: fake tensors have none, and refuse to be read."""

from dataclasses import replace

import pytest
import torch
from helpers.plain_run import MODEL, TRAIN
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from golf_fast.config import TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.train import Averages, Optimizer, Rates

EMA = replace(TRAIN, ema_start_step=1)
SWA = replace(TRAIN, ema=False, swa=True, swa_every=1, swa_start_factor=2.0)


def update(config: TrainConfig, *, reads_at_once: bool) -> None:
    with FakeTensorMode():
        model = GPT(MODEL, seed=None)
        optimizer, averages = Optimizer(model, config, Ranks.single()), Averages(model, config)
        optimizer.reads_at_once = reads_at_once
        for step in (1, 2, 3):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step(Rates(1.0, 0.9), torch.zeros(()))
            averages.update(step, 1.0, optimizer.ok)


@pytest.mark.parametrize("config", [EMA, SWA, replace(EMA, grad_clip=0.0)], ids=["ema", "swa", "no clip"])
def test_the_update_waits_for_nothing(config: TrainConfig) -> None:
    update(config, reads_at_once=False)


def test_what_is_read_is_seen() -> None:
    with pytest.raises(DataDependentOutputException):
        update(EMA, reads_at_once=True)
