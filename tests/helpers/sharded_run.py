"""Optimizer steps of one of several ranks on gradients that a test can make anew: `sharded_run.py OUT_DIR`."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers.plain_run import MODEL, TRAIN, run

from golf_fast.distributed import Ranks
from golf_fast.errors import StoppedError
from golf_fast.model import GPT
from golf_fast.train import Optimizer, Piece, Rates, Trainer
from golf_fast.train.agreement import require_agreement

STEPS = 3


def give_gradients(model: GPT, step: int, rank: int, world_size: int) -> None:
    """A rank's part of gradients whose sum over the ranks is the same for every world size, in bits too."""
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        whole = torch.randn(parameter.shape, generator=generator).bfloat16().float()  # sums of such parts are exact
        parts = [whole * (part + 1) / 4 for part in range(world_size)]
        parts[-1] = whole - sum(parts[:-1])
        parameter.grad = parts[rank].to(parameter.dtype)


def step(optimizer: Optimizer, model: GPT, number: int, ranks: Ranks) -> None:
    give_gradients(model, number, ranks.rank, ranks.world_size)
    optimizer.step(Rates(1.0 - number / 10, 0.9), torch.tensor(1.0 / ranks.world_size))


def copied(state: dict[str, Piece]) -> dict[str, tuple[torch.Tensor, int, int]]:
    return {name: (piece.tensor.clone(), piece.first, piece.rows) for name, piece in state.items()}


def after_one_bad_rank(optimizer: Optimizer, model: GPT, ranks: Ranks) -> bool:
    """Whether a gradient that is not finite on the last rank, and the step after it, leave everything as it was."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    state = copied(optimizer.state())
    give_gradients(model, STEPS, ranks.rank, ranks.world_size)
    if ranks.rank == ranks.world_size - 1:
        model.mlp_up.grad[-1, 0, 0] = torch.inf
    optimizer.step(Rates(1.0, 0.9))
    named = dict(zip(optimizer.parameters, optimizer.found[:-1].isfinite().tolist(), strict=True))
    assert [name for name, finite in named.items() if not finite] == ["mlp_up"]
    step(optimizer, model, STEPS + 1, ranks)
    weights = all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    return weights and all(torch.equal(now[0], state[name][0]) for name, now in copied(optimizer.state()).items())


def raised(function: Callable[[], object]) -> str:
    try:
        function()
    except (ValueError, StoppedError) as error:
        return str(error)
    return "nothing"


def training_with_a_bad_rank(folder: Path, ranks: Ranks) -> str:
    """What a training says in which the last rank's loss is no number at step 3."""
    calls = []
    plain = Trainer.step

    def spoilt(trainer: Trainer, rates: Rates) -> torch.Tensor:
        calls.append(rates)
        if len(calls) == 3 and ranks.rank == ranks.world_size - 1:
            trainer.loss = lambda *batch: trainer.model(*batch) * torch.nan
        return plain(trainer, rates)

    Trainer.step = spoilt  # type: ignore[method-assign]
    try:
        return raised(lambda: run(folder, ranks, replace(TRAIN, warmup_steps=0)))
    finally:
        Trainer.step = plain  # type: ignore[method-assign]


def main() -> None:
    folder = Path(sys.argv[1])
    ranks = Ranks.from_environment("cpu")
    torch.set_num_threads(1)
    model = GPT(MODEL, seed=3)
    optimizer = Optimizer(model, TRAIN, ranks)
    optimizer.reads_at_once = ranks.world_size < 4  # four do as on a GPU
    for number in range(STEPS):
        step(optimizer, model, number, ranks)
    result: dict[str, Any] = {
        "weights": {name: parameter.detach().clone() for name, parameter in model.named_parameters()},
        "state": copied(optimizer.state()),
        "found": optimizer.found,
    }
    result["unchanged"] = after_one_bad_rank(optimizer, model, ranks)
    result["training"] = training_with_a_bad_rank(folder, ranks)
    result["agreed"] = raised(lambda: require_agreement(optimizer.parameters, ranks, 7))
    if ranks.rank == 1:
        model.attn_scale.data[0, :2] = model.attn_scale.data[0, :2].flip(0) + torch.tensor([0.0, 1e-6])
    result["disagreed"] = raised(lambda: require_agreement(optimizer.parameters, ranks, 7))
    torch.save(result, folder / f"{ranks.world_size}-{ranks.rank}.pt")
    ranks.close()


if __name__ == "__main__":
    main()
