"""What a training remembers, kept and loaded again."""

from dataclasses import replace

import pytest
import torch
from helpers.plain_run import MODEL, TRAIN

from golf_fast.config import TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.train import Averages, Optimizer, Piece, Rates, Reader

SINGLE = Ranks.single()
SWA = replace(TRAIN, ema=False, swa=True, swa_every=1, swa_start_factor=2.0)


def kept(state: dict[str, Piece]) -> Reader:
    """A reader of copies of a whole state."""
    copies = {name: piece.tensor.clone() for name, piece in state.items()}
    for name, piece in state.items():
        assert (piece.first, piece.rows) == (0, len(piece.tensor)), name

    def read(name: str, first: int, count: int) -> torch.Tensor:
        if name not in copies:
            raise InputError(f"{name} is missing")
        return copies[name][first : first + count]

    return read


def steps(model: GPT, optimizer: Optimizer, averages: Averages, numbers: range) -> None:
    """Train on gradients that depend on the number of the step only."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step(Rates(0.5, 0.9))
        averages.update(number + 1, 0.5)


@pytest.mark.parametrize("config", [TRAIN, SWA], ids=["ema", "swa"])
def test_a_loaded_state_goes_on_to_the_same_bits(config: TrainConfig) -> None:
    model = GPT(MODEL, seed=3)
    optimizer, averages = Optimizer(model, config, SINGLE), Averages(model, config)
    steps(model, optimizer, averages, range(4))
    weights = {name: parameter.detach().clone() for name, parameter in model.state_dict().items()}
    of_optimizer, of_averages = kept(optimizer.state()), kept(averages.state())
    steps(model, optimizer, averages, range(4, 7))

    again = GPT(MODEL, seed=4)
    again.load_state_dict(weights)
    loaded, loaded_averages = Optimizer(again, config, SINGLE), Averages(again, config)
    loaded.load(of_optimizer)
    loaded_averages.load(of_averages)
    steps(again, loaded, loaded_averages, range(4, 7))
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name
    assert loaded_averages.used == averages.used != "none"
    for name, mean in averages.weights().items():
        assert torch.equal(mean, loaded_averages.weights()[name]), name


def test_names_say_what_is_kept() -> None:
    model = GPT(MODEL, seed=3)
    names = set(Optimizer(model, TRAIN, SINGLE).state())
    assert {"muon.momentum.qo_bank", "adamw.exp_avg.tok_emb", "adamw.exp_avg_sq.bigram_scale", "adamw.step"} <= names
    assert set(Averages(model, TRAIN).state()) == {"ema.count", "swa.count"}


def test_a_state_of_another_shape_is_refused() -> None:
    model = GPT(MODEL, seed=3)
    wider = GPT(replace(MODEL, mlp_mult=3), seed=3)
    with pytest.raises(InputError, match=r"muon\.momentum\.mlp_up is torch\.float32 \[3, 96, 32\]"):
        Optimizer(model, TRAIN, SINGLE).load(kept(Optimizer(wider, TRAIN, SINGLE).state()))
    with pytest.raises(InputError, match=r"ema\.count is missing"):
        Averages(model, TRAIN).load(kept({}))
