"""One pass along the stream: the losses of the uncut sequence, whoever shares the work, only where that is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from golf_fast.config import ModelConfig, RunConfig, ScoreConfig
from golf_fast.data import TokenBytes, Validation
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.recipes import RECIPES
from golf_fast.score import Ledger, score_tokens
from golf_fast.score.ledger import ranges_of
from golf_fast.score.rows import TokenRows
from golf_fast.score.streaming import score_stream

CONFIG = ModelConfig(
    vocab_size=50, dim=16, layers=4, heads=4, kv_heads=2, bigram_buckets=37, bigram_dim=8, window=(9, 4, 17, 6)
)
STREAM = ScoreConfig(window=32, stride=8, batch_windows=4, ttt="off", ttt_chunk_tokens=32, streaming=True)
CPU = torch.device("cpu")


def model_of(dtype: torch.dtype = torch.float64, config: ModelConfig = CONFIG) -> GPT:
    model = GPT(config, compute_dtype=dtype, seed=1).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def tokens_of(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 50, count).astype(np.uint16)


def uncut(model: GPT, tokens: np.ndarray) -> np.ndarray:
    ids = torch.from_numpy(tokens.astype(np.int64))[None]
    with torch.no_grad():
        return model.token_losses(ids[:, :-1], ids[:, 1:])[0].numpy()


def validation_of(tokens: np.ndarray) -> Validation:
    lengths = np.full(50, 2, np.int16)
    return Validation.counted(tokens, TokenBytes(lengths, np.zeros(50, np.bool_), np.zeros(50, np.bool_)))


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_every_piece_gives_the_losses_of_the_uncut_sequence(piece: int) -> None:
    tokens = tokens_of(201)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        model = model_of(dtype)
        losses = torch.zeros(200, dtype=dtype)
        score_stream(model, TokenRows(tokens, CPU), 0, 200, losses, lambda done: None, piece)
        expected = uncut(model, tokens)
        assert expected.dtype == losses.numpy().dtype
        assert np.abs(losses.numpy() - expected).max() < tolerance


@pytest.mark.parametrize("share", [(0, 60), (20, 21), (33, 150), (150, 200)])
def test_a_part_of_the_stream_is_the_part_of_the_whole(share: tuple[int, int]) -> None:
    model, tokens = model_of(), tokens_of(201)
    losses, told = torch.zeros(200, dtype=torch.float64), []
    score_stream(model, TokenRows(tokens, CPU), *share, losses, told.append, 16)
    inside = slice(*share)
    assert np.abs(losses.numpy()[inside] - uncut(model, tokens)[inside]).max() < 1e-10
    losses[inside] = 0
    assert not losses.any(), "no other target is written"
    assert told == sorted(told)
    assert told[-1] == share[1] - share[0]


def test_the_scorer_streams_and_says_so_in_the_ledger() -> None:
    model, tokens, ledger = model_of(torch.float32), tokens_of(257), Ledger()
    score = score_tokens(model, validation_of(tokens), STREAM, ledger=ledger)
    assert np.abs(score.losses - uncut(model, tokens)).max() < 1e-5
    assert score.legal
    assert score.track == "A"
    assert [ranges_of(event) for event in ledger.events if event["event"] == "score"] == [[(0, 256)]]
    # Windows at least as far-reaching as the model's give the same, where they reach.
    windows = score_tokens(
        model, validation_of(tokens), replace(STREAM, streaming=False, window=64, ttt_chunk_tokens=64)
    )
    assert abs(windows.nats - score.nats) < 1e-4 * score.nats


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_scores_its_share(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = model_of(torch.float32), tokens_of(257)
    ranks = Ranks(rank, 2, CPU)
    monkeypatch.setattr(Ranks, "gather_bytes", lambda self, data: [b"[0, 128]", b"[128, 256]"])
    others = torch.from_numpy(uncut(model, tokens))
    others[128 * rank : 128 * rank + 128] = 0
    monkeypatch.setattr(Ranks, "all_sum_", lambda self, losses: losses.add_(others))
    score = score_tokens(model, validation_of(tokens), STREAM, ranks)
    assert np.abs(score.losses - uncut(model, tokens)).max() < 1e-5


@pytest.mark.parametrize("window", [(0,), (3, 0, 4, 5)])
def test_a_model_that_sees_everything_is_not_streamed(window: tuple[int, ...]) -> None:
    full = replace(CONFIG, window=window)
    with pytest.raises(InputError, match=r"score.streaming is True: model.window is \(.*; leave score.streaming off"):
        score_tokens(model_of(torch.float32, full), validation_of(tokens_of(65)), STREAM)
    with pytest.raises(InputError, match=r"model.window is \(.*: it must be without a 0 where score.streaming is on"):
        RunConfig(model=full, score=STREAM)


def test_adapting_is_not_streamed() -> None:
    with pytest.raises(InputError, match=r"score\.streaming is True: it must be off, or score.ttt off"):
        replace(STREAM, ttt="chunked")


def test_the_windowed_recipe_streams() -> None:
    config = RECIPES["seed_windowed"]()
    assert config.score.streaming
    assert None not in config.model.windows
