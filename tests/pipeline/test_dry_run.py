"""A dry run says what ranks exchange and hold, and refuses those that do not fit together; nothing is made."""

import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_run import SMALL

from golf_fast import command_line
from golf_fast.config import ModelConfig, RunConfig, TrainConfig
from golf_fast.console import exit_with
from golf_fast.data import write_shard
from golf_fast.errors import StoppedError
from golf_fast.model import GPT
from golf_fast.pipeline import dry_run as module
from golf_fast.pipeline.dry_run import require_equal
from golf_fast.pipeline.rehearsal import Exchange, Rehearsal, rehearse
from golf_fast.train.__main__ import main
from golf_fast.train.gradients import Gradients

MODEL = ModelConfig(vocab_size=320, dim=64, layers=5, heads=2, kv_heads=1, bigram_buckets=64, bigram_dim=32)
TRAIN = TrainConfig(batch_tokens=8 * 128, micro_batches=8, seq_len=64, max_seconds=0, warmup_steps=0, ema_start_step=1)
CONFIG = RunConfig(model=MODEL, train=TRAIN)


@pytest.fixture(scope="module")
def ranks() -> list[Rehearsal]:
    return [rehearse(CONFIG, rank, 4, every_shape=rank == 0) for rank in range(4)]


def test_all_ranks_exchange_the_same(ranks: list[Rehearsal]) -> None:
    require_equal(ranks)
    exchanges = ranks[0].exchanges
    assert exchanges is not None
    names = [each.name for each in exchanges]
    banks = ranks[0].banks
    assert sum("reduce_scatter" in name for name in names) == sum("allgather" in name for name in names) == len(banks)
    assert names[-1].startswith("allgather")
    with torch.device("meta"):
        model = GPT(MODEL, seed=None)
    largest_first = sorted(banks, key=lambda bank: -model.get_parameter(bank.name).numel())
    for each, bank in zip(exchanges, largest_first, strict=False):
        rows = list(model.get_parameter(bank.name).shape[1:])
        assert each.tensors[:2] == (f"float32 {[bank.share, *rows]}", f"float32 {[4 * bank.share, *rows]}")


def test_banks_are_padded_to_the_world_size(ranks: list[Rehearsal]) -> None:
    with torch.device("meta"):
        model = GPT(MODEL, seed=None)
    matrices = {row.name for row, parameter in model.claimed("a test") if row.role == "matrix" and parameter.ndim == 3}
    sizes = {name: len(parameter) for name, parameter in model.named_parameters() if name in matrices}
    assert {bank.name: bank.matrices for bank in ranks[0].banks} == sizes
    for bank in ranks[0].banks:
        assert bank.share == math.ceil(bank.matrices / 4)
        assert bank.matrices + bank.padding == 4 * bank.share
    assert any(bank.padding for bank in ranks[0].banks)
    assert rehearse(CONFIG, 0, 1).banks == []


def test_the_memory_is_what_the_tensors_take(ranks: list[Rehearsal]) -> None:
    with torch.device("meta"):
        model = GPT(MODEL, compute_dtype=torch.bfloat16, embedding_dtype=torch.bfloat16, seed=None)
    size = sum(parameter.nbytes for parameter in model.parameters())
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    memory = ranks[0].memory
    assert size <= memory.parameters <= size + buffers + 1000
    assert memory.gradients == size
    floats = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert floats <= memory.averages <= floats + 1000
    one = rehearse(CONFIG, 0, 1).memory
    shares = sum(4 * bank.share * math.prod(model.get_parameter(bank.name).shape[1:]) for bank in ranks[0].banks)
    whole = sum(4 * model.get_parameter(bank.name).numel() for bank in ranks[0].banks)
    padded = sum(
        16 * bank.share * math.prod(model.get_parameter(bank.name).shape[1:]) for bank in ranks[0].banks if bank.padding
    )
    assert memory.optimizer == pytest.approx(one.optimizer - whole + shares + padded, abs=1000)
    more = rehearse(replace(CONFIG, train=replace(TRAIN, batch_tokens=8 * 1024)), 0, 4).memory
    assert 6 < more.activations / memory.activations < 10, "eight times as many tokens"
    assert more.parameters == memory.parameters


def test_every_length_of_rows_is_gone_through() -> None:
    growing = replace(TRAIN, batch_tokens=8 * 256, seq_growth=(32,), seq_growth_until=(0.5,))
    first = rehearse(replace(CONFIG, train=growing), 0, 2, every_shape=False)
    whole = rehearse(replace(CONFIG, train=growing), 0, 2)
    assert whole.exchanges == first.exchanges
    assert whole.memory.activations >= first.memory.activations


def test_separate_documents_are_gone_through() -> None:
    score = replace(CONFIG.score, ttt="off")
    apart = rehearse(replace(CONFIG, model=replace(MODEL, separate_documents=True), score=score), 1, 2)
    assert apart.exchanges
    assert apart.exchanges == rehearse(replace(CONFIG, score=score), 1, 2).exchanges


def test_ranks_that_do_not_fit_together_are_named(ranks: list[Rehearsal], monkeypatch: pytest.MonkeyPatch) -> None:
    before = Gradients.__init__

    def turned(self: Gradients, parameters: Any, banks: Any, shares: Any, ranks: Any) -> None:
        before(self, parameters, banks, shares, ranks)
        if ranks.rank == 2:
            self._shares = dict(reversed(self._shares.items()))

    monkeypatch.setattr(Gradients, "__init__", turned)
    odd = [*ranks[:2], rehearse(CONFIG, 2, 4), ranks[3]]
    with pytest.raises(
        StoppedError, match=r"exchange 1 of a step is reduce_scatter\w* float32 .* on rank 2, and .* rank 0"
    ):
        require_equal(odd)
    fewer = replace(ranks[1], exchanges=(ranks[1].exchanges or [])[:-1])
    with pytest.raises(StoppedError, match=r"a step has \d+ exchanges on rank 1, and \d+ on rank 0"):
        require_equal([ranks[0], fewer])


def test_without_a_fake_group_the_rest_is_told(monkeypatch: pytest.MonkeyPatch, ranks: list[Rehearsal]) -> None:
    monkeypatch.setitem(sys.modules, "torch.testing._internal.distributed.fake_pg", None)
    alone = rehearse(CONFIG, 0, 4)
    assert alone.exchanges is None
    assert (alone.memory, alone.banks) == (ranks[0].memory, ranks[0].banks)
    require_equal([alone, alone])
    assert any("not compared, for this torch has no fake" in line for line in module._plan(CONFIG, alone, 4))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train", "tiny", *SMALL, "--device=cpu", *arguments])
    with pytest.raises(SystemExit) as stop:
        exit_with(main, prints=False)
    return int(stop.value.code or 0)


def test_the_program_prints_the_plan_and_makes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_shard(tmp_path / "shards" / "x_train_000000.bin", [1] * 2000)
    shards = f"--data.shards={tmp_path / 'shards'}"
    assert run(monkeypatch, "--train.dry-run", "--train.dry-run-ranks=2", "--train.max-seconds=10", shards) == 0
    said = capsys.readouterr().out
    assert "exchanges of a step, the same on all 2 ranks:" in said
    assert "1,024 tokens in 8 micro-batches of 128 (4 rows of 32); each rank makes 4 of them" in said
    assert re.search(r"time: [\d.]+ s of training, .* at most 4 steps", said)
    assert "a step's time is not known" in said
    assert "data: 2,000 training tokens in " in said
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
    monkeypatch.setenv("RANK", "1")
    assert run(monkeypatch, "--train.dry-run") == 0
    assert capsys.readouterr().out == ""


def test_the_time_of_an_earlier_run_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_known", lambda config, world_size: (tmp_path, 0.25))
    assert run(monkeypatch, "--train.dry-run", "--train.dry-run-ranks=1", "--train.max-steps=9") == 0
    said = capsys.readouterr().out
    assert f"a step took 250.0 ms in {tmp_path}: 9 steps in 2 s, 9,216 tokens" in said
    assert "exchanges: none, there is one rank" in said


def test_a_number_of_ranks_that_does_not_fit_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--train.dry-run", "--train.dry-run-ranks=3") == 2
    assert "train.dry_run_ranks is 3: it must divide train.micro_batches = 8" in capsys.readouterr().err


def test_equal_exchanges_are_equal() -> None:
    a, b = Exchange("allreduce", ("float32 [2]",), 8), Exchange("allreduce", ("float32 [3]",), 12)
    assert a != b
    assert command_line.flag_names("train.dry_run") == ["--train.dry-run", "--train.no-dry-run"]
