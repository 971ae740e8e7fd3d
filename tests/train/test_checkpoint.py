"""Checkpoints of a training: from each of them it ends in the bits of one that was never cut short."""

import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import plain_run, resumed_training
from helpers.plain_run import Lines, run
from helpers.resumed_training import CONFIG, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.config import TrainConfig
from golf_fast.console import Terminated, deferred
from golf_fast.data import Batches, TokenStream, write_shard
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.train import Rates, Trainer, checkpoint
from golf_fast.train.checkpoint import Checkpoints, folders, newest, read

SINGLE = Ranks.single()
STEPS = CONFIG.max_steps


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("training")
    plain_run.shard(folder)
    found, log = trained(folder, folder / "resume", SINGLE, None)
    without, plain = run(folder, SINGLE, CONFIG)
    assert log.losses() == plain.losses()
    assert equal(found.weights, without.weights)
    return folder, (found, log.losses())


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_from_every_step_a_training_ends_in_the_same_bits(undisturbed: tuple[Path, Any], step: int) -> None:
    folder, (whole, losses) = undisturbed
    assert [path.name for path in folders(folder / "resume")] == [f"step-{k:08d}" for k in range(1, STEPS + 1)]
    start = read(folder / "resume" / f"step-{step:08d}")
    assert start.step == step
    found, log = trained(folder, folder / "again", SINGLE, start)
    assert equal(found.weights, whole.weights)
    assert log.losses() == (losses[step:] or losses[-1:])  # what training ends with is said again
    assert found.train_loss == whole.train_loss
    assert found.average == whole.average == "ema"
    assert found.schedule.recorded == whole.schedule.recorded
    assert found.seconds >= start.seconds > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies on a GPU, and a stream that brings them to the host")
def test_on_a_gpu_a_training_goes_on_where_it_was(tmp_path: Path) -> None:
    plain_run.shard(tmp_path)
    ranks = Ranks.single("cuda")
    whole, log = trained(tmp_path, tmp_path / "resume", ranks, None)
    for step in range(1, STEPS + 1):
        start = read(tmp_path / "resume" / f"step-{step:08d}")
        found, again = trained(tmp_path, tmp_path / "again", ranks, start)
        assert again.losses() == pytest.approx(log.losses()[step:] or log.losses()[-1:], rel=1e-4)
        for name, tensor in whole.weights.items():
            torch.testing.assert_close(found.weights[name], tensor, rtol=1e-2, atol=1e-3, msg=name)


def test_ranks_go_on_in_the_same_bits_and_any_number_of_them_goes_on(
    undisturbed: tuple[Path, Any], run_ranks: Callable[..., None], tmp_path: Path
) -> None:
    folder, (whole, losses) = undisturbed
    plain_run.shard(tmp_path)
    script = resumed_training.__file__
    run_ranks(script, 2, tmp_path / "two", tmp_path / "resume")
    run_ranks(script, 2, tmp_path / "again", tmp_path / "resume", 2)
    run_ranks(script, 1, tmp_path / "one", tmp_path / "resume", 2)
    shutil.copytree(folder / "resume" / "step-00000002", tmp_path / "of_one" / "step-00000002")
    run_ranks(script, 4, tmp_path / "four", tmp_path / "of_one", 2)
    two, again, one, four = (torch.load(tmp_path / f"{name}-0.pt") for name in ("two", "again", "one", "four"))
    assert again["losses"] == two["losses"][2:]
    assert equal(again["weights"], two["weights"])
    for other in (one, four):
        assert other["losses"] == pytest.approx(losses[2:], rel=2e-6)
        assert other["weights"].keys() == whole.weights.keys()


@pytest.mark.parametrize("damage", ["a bit", "half", "no marker", "another rank's is missing"])
def test_a_damaged_checkpoint_is_passed_over(undisturbed: tuple[Path, Any], tmp_path: Path, damage: str) -> None:
    shutil.copytree(undisturbed[0] / "resume", tmp_path / "resume")
    last = tmp_path / "resume" / f"step-{STEPS:08d}"
    tensors, marker = last / "rank-0-of-1.safetensors", last / "rank-0-of-1.json"
    if damage == "a bit":
        content = bytearray(tensors.read_bytes())
        content[len(content) // 2] ^= 1
        tensors.write_bytes(content)
    elif damage == "half":
        tensors.write_bytes(tensors.read_bytes()[: tensors.stat().st_size // 2])
    elif damage == "no marker":
        marker.unlink()
    else:
        marker.rename(last / "rank-0-of-2.json")
        tensors.rename(last / "rank-0-of-2.safetensors")
    said: list[str] = []
    found = newest(tmp_path / "resume", said.append)
    assert found is not None
    assert found.step == STEPS - 1
    assert len(said) == 1
    assert f"step-{STEPS:08d}" in said[0]
    assert said[0].endswith("; passed over")
    with pytest.raises(InputError):
        read(last)


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    plain_run.shard(tmp_path)
    trained(tmp_path, tmp_path / "resume", SINGLE, None, replace(CONFIG, checkpoint_keep=2))
    assert [path.name for path in folders(tmp_path / "resume")] == [f"step-{STEPS - 1:08d}", f"step-{STEPS:08d}"]


def test_training_seconds_decide_too(tmp_path: Path) -> None:
    plain_run.shard(tmp_path)
    trained(tmp_path, tmp_path / "resume", SINGLE, None, replace(CONFIG, checkpoint_every=0, checkpoint_seconds=1e-9))
    assert len(folders(tmp_path / "resume")) == STEPS
    trained(tmp_path, tmp_path / "none", SINGLE, None, replace(CONFIG, checkpoint_every=0, checkpoint_seconds=1e6))
    trained(tmp_path, tmp_path / "none", SINGLE, None, replace(CONFIG, checkpoint_every=0, checkpoint_seconds=0))
    assert folders(tmp_path / "none") == []


def test_what_cannot_be_written_is_said_and_training_goes_on(
    undisturbed: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, (whole, _) = undisturbed
    (tmp_path / "file").write_text("x")
    found, log = trained(folder, tmp_path / "file", SINGLE, None)
    assert equal(found.weights, whole.weights)
    said = [line for line in log.lines if line.endswith("the run goes on without this checkpoint")]
    assert len(said) == STEPS
    assert not any("not every rank" in line for line in log.lines)

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    found, log = trained(folder, tmp_path / "full", SINGLE, None)
    assert equal(found.weights, whole.weights)
    assert any("its disk has 1,000 bytes left" in line for line in log.lines)
    assert newest(tmp_path / "full", lambda text: None) is None

    def full(tensors: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(checkpoint, "Copies", full)
    found, log = trained(folder, tmp_path / "memory", SINGLE, None)
    assert equal(found.weights, whole.weights)
    assert "step 1: CUDA out of memory.; the run goes on without this checkpoint" in log.lines


def test_weights_that_are_no_numbers_are_not_kept(
    undisturbed: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = Trainer.step

    def breaking(trainer: Trainer, rates: Rates) -> torch.Tensor:
        loss = step(trainer, rates)
        if len(folders(tmp_path)) == 2:
            with torch.no_grad():
                trainer.model.get_parameter("tok_emb").fill_(math.nan)
        return loss

    monkeypatch.setattr(Trainer, "step", breaking)
    with pytest.raises(InputError, match="train_loss is nan"):
        trained(undisturbed[0], tmp_path, SINGLE, None)
    start = newest(tmp_path, lambda text: None)
    assert start is not None
    assert start.step == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(
    undisturbed: tuple[Path, Any], tmp_path: Path, number: signal.Signals
) -> None:
    folder, (whole, _) = undisturbed
    config = replace(CONFIG, checkpoint_every=0)

    class Signals(Lines):
        def metric(self, **fields: object) -> None:
            super().metric(**fields)
            if fields.get("step") == 2 and fields["kind"] == "train":
                os.kill(os.getpid(), number)

    log = Signals()
    with deferred() as deferral, pytest.raises(KeyboardInterrupt) as stop:
        run(folder, SINGLE, config, checkpoints=Checkpoints(tmp_path, config, SINGLE, log, deferral), log=log)
    assert isinstance(stop.value, Terminated) == (number == signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    start = newest(tmp_path, lambda text: None)
    assert start is not None
    assert start.step in (2, 3)
    found, log = trained(folder, tmp_path, SINGLE, start, config)
    assert equal(found.weights, whole.weights)


def test_the_checkpoint_of_another_model_is_refused(undisturbed: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = undisturbed
    start = read(folder / "resume" / "step-00000001")
    with pytest.raises(InputError, match=r"is torch.float32 .*: it must be"):
        start_elsewhere(folder, tmp_path, start)


def start_elsewhere(folder: Path, resume: Path, start: checkpoint.Checkpoint) -> None:
    model = plain_run.MODEL
    plain_run.MODEL = replace(model, bigram_dim=12)
    try:
        trained(folder, resume, SINGLE, start)
    finally:
        plain_run.MODEL = model


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    folder = tmp_path_factory.mktemp("shards")
    generator = np.random.default_rng(1)
    for number, size in enumerate((701, 96, 1203)):
        write_shard(folder / f"x_train_{number:06d}.bin", generator.integers(0, 60, size, dtype=np.uint16))
    return TokenStream(sorted(folder.iterdir()), 60)


@settings(max_examples=60)
@given(data=st.data())
def test_the_loader_goes_on_where_it_was_for_any_number_of_ranks(stream: TokenStream, data: st.DataObject) -> None:
    seq_len = data.draw(st.sampled_from([4, 8, 16]))
    config = TrainConfig(seq_len=seq_len, micro_batches=8, batch_tokens=8 * seq_len * data.draw(st.integers(1, 3)))
    before, after = data.draw(st.sampled_from([1, 2, 4, 8])), data.draw(st.sampled_from([1, 2, 4, 8]))
    steps, more = data.draw(st.integers(0, 30)), data.draw(st.integers(1, 3))

    def all_batches(size: int) -> list[Batches]:
        return [Batches(stream, rank, size, config.batch_tokens, 8, seq_len) for rank in range(size)]

    def step(ranks: list[Batches]) -> list[torch.Tensor]:
        """The micro-batches of a step in the order of the stream."""
        return [rank.next().tokens for _ in range(8 // len(ranks)) for rank in ranks]

    whole, first, second = all_batches(1), all_batches(before), all_batches(after)
    for _ in range(steps):
        step(whole)
        step(first)
    assert len({rank.state()["position"] for rank in first}) == 1
    for rank in second:
        rank.restore(first[0].state())
    for _ in range(more):
        for expected, found in zip(step(whole), step(second), strict=True):
            assert torch.equal(expected, found)
