"""The training loop: ranks, the undone warm-up, replay, validation, and a loss that is no number."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import plain_run
from helpers.plain_run import MODEL, TRAIN, Lines, run

from golf_fast.data import Batch, Batches, TokenStream
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.runs import RunPaths
from golf_fast.train import Trainer, loop, train
from golf_fast.train.clock import Clock
from golf_fast.train.schedule import Rates

SINGLE = Ranks.single()


@pytest.fixture(scope="module")
def by_world_size(tmp_path_factory: pytest.TempPathFactory, run_ranks: Callable[..., None]) -> dict[int, Any]:
    folder = tmp_path_factory.mktemp("worlds")
    plain_run.shard(folder)
    results = {}
    for world_size in (1, 2, 4):
        run_ranks(plain_run.__file__, world_size, folder)
        results[world_size] = [torch.load(folder / f"{world_size}-{rank}.pt") for rank in range(world_size)]
    return results


def test_one_two_and_four_ranks_see_the_same_losses(by_world_size: dict[int, Any]) -> None:
    alone = by_world_size[1][0]["losses"]
    assert len(alone) == TRAIN.max_steps
    assert len(set(alone)) == TRAIN.max_steps
    for world_size in (2, 4):
        assert by_world_size[world_size][0]["losses"] == pytest.approx(alone, rel=2e-6)


def test_all_ranks_end_with_the_same_bits(by_world_size: dict[int, Any]) -> None:
    for results in by_world_size.values():
        for other in results[1:]:
            for name, tensor in results[0]["weights"].items():
                assert torch.equal(tensor, other["weights"][name]), name


def test_ranks_end_with_the_weights_of_a_single_process(by_world_size: dict[int, Any]) -> None:
    """Against how far training moved them. A scalar's gradient can cancel to nearly nothing, and AdamW's first steps
    make as much of that as of any other, so the order in which ranks add up shows most there."""
    before = dict(GPT(MODEL, seed=3).named_parameters())
    for name, tensor in by_world_size[1][0]["weights"].items():
        moved = float((tensor - before[name].detach()).norm())
        for world_size in (2, 4):
            difference = float((by_world_size[world_size][0]["weights"][name] - tensor).norm())
            assert difference < (0.002 if tensor.ndim else 0.05) * moved, f"{name} with {world_size} ranks"


def test_the_warm_up_leaves_no_trace(tmp_path: Path) -> None:
    with_warm_up, _ = run(tmp_path, SINGLE, replace(TRAIN, warmup_steps=3))
    without, _ = run(tmp_path, SINGLE, replace(TRAIN, warmup_steps=0))
    for name, tensor in without.weights.items():
        assert torch.equal(tensor, with_warm_up.weights[name]), name


def test_micro_batches_together_or_one_by_one_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, rows = GPT.forward, []

    def counted(self: GPT, tokens: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        rows.append(len(tokens))
        return forward(self, tokens, *others)

    monkeypatch.setattr(GPT, "forward", counted)
    _, together = run(tmp_path, SINGLE)
    monkeypatch.setattr(loop, "MERGED_TOKENS", 1)
    taken_together, rows[:] = max(rows), []
    _, one_by_one = run(tmp_path, SINGLE)
    assert len(one_by_one.losses()) == TRAIN.max_steps
    assert one_by_one.losses() == pytest.approx(together.losses(), rel=2e-6)
    assert max(rows) < taken_together, "both ran alike: the test compared nothing"


def test_a_replayed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    by_clock = replace(TRAIN, max_seconds=1.0, max_steps=50, warmdown_steps=8)
    seconds = itertools.count(0.0, 0.1)
    first, _ = run(tmp_path, SINGLE, by_clock, Clock(SINGLE, lambda: next(seconds)))
    assert first.steps == 10
    first.schedule.as_recorded().write(RunPaths(tmp_path).schedule)
    again, _ = run(tmp_path, SINGLE, replace(by_clock, replay_schedule=tmp_path))
    assert again.steps == first.steps
    assert len({rates.lr_factor for rates in first.schedule.recorded}) > 1
    assert again.schedule.recorded == first.schedule.recorded
    for name, tensor in first.weights.items():
        assert torch.equal(tensor, again.weights[name]), name
    steps = json.loads((tmp_path / "schedule.json").read_text())["steps"]
    assert steps == first.steps


def trainer_on(tokens: np.ndarray, folder: Path) -> Trainer:
    path = folder / "given_train_000000.bin"
    plain_run.write_shard(path, tokens.astype(np.uint16))
    model = GPT(MODEL, seed=3)
    batches = Batches(
        TokenStream([path], MODEL.vocab_size), 0, 1, TRAIN.batch_tokens, TRAIN.micro_batches, TRAIN.seq_len
    )
    return Trainer(model, model, batches, TRAIN, SINGLE)


def test_rows_grow_over_the_same_tokens(tmp_path: Path) -> None:
    config = replace(TRAIN, seq_len=64, seq_growth=(16, 32), seq_growth_until=(0.3, 0.6), warmup_steps=1)
    path = plain_run.shard(tmp_path)
    seen: list[tuple[torch.Size, list[int]]] = []
    model = GPT(MODEL, seed=3)

    def loss(tokens: torch.Tensor, targets: torch.Tensor, documents: torch.Tensor | None = None) -> torch.Tensor:
        seen.append((tokens.shape, tokens.flatten().tolist()))
        return model(tokens, targets, documents)

    for pin in (False, True):  # with a thread that prepares the next batch, too
        batches = Batches(
            TokenStream([path], MODEL.vocab_size), 0, 1, config.batch_tokens, config.micro_batches, 64, pin=pin
        )
        seen.clear()
        trained = train(Trainer(model, loss, batches, config, SINGLE), Lines())
        assert [shape[1] for shape, _ in seen] == [16, 32, 64, 16, 16, 32, 64]
        tokens = [of_step for _, of_step in seen]
        assert tokens[0] == tokens[3], "the warm-up moved the position"
        assert len({tuple(of_step) for of_step in tokens[3:]}) == TRAIN.max_steps
        assert [rates.seq_len for rates in trained.schedule.recorded] == [16, 16, 32, 64]


@pytest.mark.parametrize("merged", [1, 4096])
def test_windows_grow_and_change_what_attention_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merged: int
) -> None:
    """One by one the weights of the blocks, windows among them, are made once a step."""
    monkeypatch.setattr(loop, "MERGED_TOKENS", merged)
    growing = replace(TRAIN, window_growth=(4, 8), window_growth_until=(0.3, 0.6), warmup_steps=1, log_every=1)
    _, log = run(tmp_path, SINGLE, growing)
    _, full = run(tmp_path, SINGLE)
    _, of_four = run(tmp_path, SINGLE, replace(growing, window_growth=(4,), window_growth_until=(0.99,)))
    assert log.losses()[:2] == of_four.losses()[:2] != full.losses()[:2]
    assert log.losses()[2] != of_four.losses()[2]


def test_documents_travel_from_the_loader_to_the_loss(tmp_path: Path) -> None:
    trainer = trainer_on(np.arange(3000) % 7, tmp_path)
    ends = torch.tensor([0, 4, TRAIN.seq_len], dtype=torch.int32)
    rows = Batch(*(torch.zeros(1, TRAIN.seq_len, dtype=torch.int64),) * 2, ends)
    seen = []

    def loss(*batch: torch.Tensor | None) -> torch.Tensor:
        seen.append(batch[2])
        return trainer.model(*batch)

    trainer.loss, trainer.merged, trainer.accumulation = loss, 1, 2
    trainer.batches.next = lambda: rows  # type: ignore[method-assign]
    trainer.step(Rates(1.0, 0.9))
    assert [found is not None and found.tolist() for found in seen] == [ends.tolist()] * 2


def test_training_learns_what_can_be_learnt(tmp_path: Path) -> None:
    trainer = trainer_on(np.arange(3000) % 7 + 1, tmp_path)
    trainer.config = replace(TRAIN, max_steps=30, warmdown_steps=0, log_every=1)
    log = Lines()
    train(trainer, log)
    losses = [float(str(loss)) for loss in log.losses()]
    assert losses[0] == pytest.approx(np.log(MODEL.vocab_size), rel=0.02)
    assert losses[-1] < 0.3


def test_validation_runs_off_the_clock_and_is_told(tmp_path: Path) -> None:
    trainer = trainer_on(np.arange(3000) % 7, tmp_path)
    trainer.config = replace(TRAIN, val_every=2)
    calls = []
    log = Lines()
    train(trainer, log, lambda: (calls.append(1), (1.5, 2.5))[1])
    assert len(calls) == 2
    assert "step:2 val_loss:1.5000 val_bpb:2.5000" in log.lines
    assert [metric["step"] for metric in log.metrics if metric["kind"] == "val"] == [2, 4]


def test_the_forecast_of_the_size_runs_off_the_clock_and_is_told(tmp_path: Path) -> None:
    trainer = trainer_on(np.arange(3000) % 7, tmp_path)
    trainer.config = replace(TRAIN, log_every=2)
    time = [0.0]

    def step(rates: Rates) -> torch.Tensor:
        time[0] += 1.0
        return torch.tensor(1.5)

    def predict(weights: Mapping[str, torch.Tensor]) -> int:
        assert weights.keys() == dict(trainer.model.named_parameters()).keys()
        time[0] += 1000.0
        return 12345

    trainer.step = step  # type: ignore[method-assign]
    trainer.config = replace(trainer.config, warmup_steps=0)
    log = Lines()
    trained = train(trainer, log, clock=Clock(SINGLE, lambda: time[0]), predict=predict)
    assert trained.seconds == trained.steps == TRAIN.max_steps
    sizes = [metric["expected_artifact_bytes"] for metric in log.metrics if metric["kind"] == "train"]
    assert sizes == [None, 12345, None, 12345]
    assert log.lines[1].endswith("artifact:about 12,345 bytes")


def test_lines_can_be_grepped(tmp_path: Path) -> None:
    _, log = run(tmp_path, SINGLE)
    assert log.lines[0].startswith("step:1/4 train_loss:")
    assert "step_avg:" in log.lines[0]
    assert len(log.lines) == TRAIN.max_steps


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    trainer = trainer_on(np.arange(3000) % 7, tmp_path)
    with torch.no_grad():
        trainer.model.tok_emb.fill_(torch.nan)
    with pytest.raises(InputError, match="train_loss is nan at step 1"):
        train(trainer, Lines())


def test_a_run_has_at_least_one_step(tmp_path: Path) -> None:
    trainer = trainer_on(np.arange(3000) % 7, tmp_path)
    trainer.config = replace(TRAIN, max_seconds=1e-9, warmup_steps=0)
    assert train(trainer, Lines()).steps == 1


def test_gradients_are_clipped_over_all_parameters(tmp_path: Path) -> None:
    trainer = trainer_on(np.arange(3000) % 7, tmp_path)
    trainer.step(Rates(0.0, 0.9))
    optimizer = trainer.optimizer
    assert np.linalg.norm(optimizer.found[:-1].tolist()) > TRAIN.grad_clip, "nothing was clipped"
    # The first momentum is the gradient.
    used = [optimizer.muon.momentum, *(p.grad for p in optimizer.adamw.state if p.grad is not None)]
    assert np.linalg.norm([float(g.double().norm()) for g in used]) == pytest.approx(TRAIN.grad_clip, rel=1e-5)
