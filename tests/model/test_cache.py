"""A sequence read piece by piece is the uncut sequence, and what no asked-for loss depends on is not computed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import top_models
from helpers.random_models import model_of

from golf_fast import ops
from golf_fast.config import ModelConfig
from golf_fast.model.block import rotary_tables
from golf_fast.model.cache import reach
from golf_fast.model.plan import plan_of

FULL = ModelConfig(vocab_size=30, dim=16, layers=5, heads=4, kv_heads=2, bigram_buckets=11, bigram_dim=4)
MODELS = {
    "full": FULL,
    "window": dataclasses.replace(FULL, window=(5,)),
    "one position": dataclasses.replace(FULL, window=(1,)),
    "windows": dataclasses.replace(FULL, window=(3, 9, 2, 1, 6)),
    "some": dataclasses.replace(FULL, window=(3, 0, 40, 7, 4)),
    "top": top_models.SMALL_TOP,
    "top, windows": dataclasses.replace(top_models.SMALL_TOP, window=(3, 9, 2, 1, 6)),
}
CUTS = ([1, 1, 1, 7, 30], [40], [13, 27], [2, 38], [39, 1])


def tokens_of(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, FULL.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(length))
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_pieces_have_the_losses_of_the_uncut_sequence(name: str, cut: list[int]) -> None:
    model, (tokens, targets) = model_of(MODELS[name]), tokens_of(2, 40)
    cache, losses, logits = model.new_cache(), [], []
    again = model.new_cache()
    for piece, after in zip(tokens.split(cut, dim=1), targets.split(cut, dim=1), strict=False):
        losses.append(model.token_losses(piece, after, cache=cache))
        logits.append(model.logits(piece, cache=again))
    length = sum(part.shape[1] for part in losses)
    assert cache.position == length == min(sum(cut), 40)
    expected = model.token_losses(tokens, targets)[:, :length]
    torch.testing.assert_close(torch.cat(losses, dim=1), expected, rtol=0, atol=1e-5)  # losses are float32
    torch.testing.assert_close(torch.cat(logits, dim=1), model.logits(tokens)[:, :length], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_streams_agree_to_float64(name: str) -> None:
    model, (tokens, _) = model_of(MODELS[name]), tokens_of(1, 60)
    whole, cache = model._stream(tokens), model.new_cache()
    pieces = torch.cat([model._stream(piece, cache=cache) for piece in tokens.split(7, dim=1)], dim=1)
    assert (pieces - whole).abs().max() < 1e-10 * whole.abs().max()


@torch.no_grad()
def test_a_windows_cache_keeps_what_can_still_be_seen() -> None:
    model, (tokens, _) = model_of(MODELS["windows"]), tokens_of(1, 60)
    cache = model.new_cache()
    for piece in tokens.split(20, dim=1):
        model.logits(piece, cache=cache)
        assert [past._kept[0].shape[1] for past in cache.pasts if past._kept] == [2, 8, 1, 0, 5]


@pytest.mark.parametrize("first", [1, 17, 39])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_losses_from_a_position_on_are_those_of_all(name: str, first: int) -> None:
    model, (tokens, targets) = model_of(MODELS[name]), tokens_of(2, 40)
    whole = model._stream(tokens)[:, first:]
    assert (model._stream(tokens, first=first) - whole).abs().max() < 1e-12 * whole.abs().max()
    losses = model.token_losses(tokens, targets, first=first)
    torch.testing.assert_close(losses, model.token_losses(tokens, targets)[:, first:], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_documents_hide_each_other_from_the_last_rows_too() -> None:
    model, (tokens, targets) = model_of(MODELS["windows"]), tokens_of(1, 40)
    documents = torch.tensor([0, 11, 33, 40], dtype=torch.int32)
    last = model.token_losses(tokens, targets, documents, first=30)
    torch.testing.assert_close(last, model.token_losses(tokens, targets, documents)[:, 30:], rtol=1e-6, atol=1e-6)


def test_blocks_run_on_the_rows_that_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(FULL, window=(4,))
    assert plan_of(config).starts(config.windows, 36) == [21, 24, 27, 30, 33]
    assert plan_of(config).starts((4, 4, None, 4, 4), 36) == [0, 0, 0, 30, 33]
    seen = []
    attend = ops.window_attention

    def noting(q: torch.Tensor, k: torch.Tensor, *others: object, **more: object) -> torch.Tensor:
        seen.append((q.shape[1], k.shape[1]))
        return attend(q, k, *others, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(ops, "window_attention", noting)
    tokens, targets = tokens_of(1, 40)
    model_of(config).token_losses(tokens, targets, first=36)
    assert seen == [(16, 19), (13, 16), (10, 13), (7, 10), (4, 7)]


@pytest.mark.parametrize(
    ("config", "far"),
    [
        (dataclasses.replace(FULL, layers=2, window=(3, 5)), 2 + 4 + 2),
        # slots 0, 1, 2, 1, 2, 1, 2, 3, 4
        (dataclasses.replace(top_models.SMALL_TOP, bigram_buckets=11, window=(2, 2, 1, 3, 2)), 1 + 3 + 0 + 2 + 1 + 2),
    ],
    ids=["two blocks", "top"],
)
def test_what_a_loss_depends_on_is_within_reach(config: ModelConfig, far: int) -> None:
    assert reach(config) == far
    assert reach(MODELS["some"]) is None
    model, (tokens, targets) = model_of(config), tokens_of(1, 30)
    with torch.no_grad():
        for back, changed in ((far, True), (far + 1, False)):
            other = tokens.clone()
            other[0, 25 - back] += 1
            losses = [model._stream(ids)[0, 25] for ids in (tokens, other % 30)]
            assert (not torch.equal(*losses)) == changed, back
    assert targets.shape == tokens.shape


@pytest.mark.parametrize("rounded", [False, True])
def test_rotary_tables_far_from_the_beginning_are_exact(rounded: bool) -> None:
    config = dataclasses.replace(FULL, rope_bf16_frequencies=rounded)
    cpu = torch.device("cpu")
    start = 62_000_000
    float32, float64 = (rotary_tables(3, config, dtype, cpu, start) for dtype in (torch.float32, torch.float64))
    for narrow, wide in zip(float32, float64, strict=True):
        torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=1e-7)
    near = rotary_tables(9, config, torch.float64, cpu)
    torch.testing.assert_close(rotary_tables(3, config, torch.float64, cpu, 6)[0], near[0][6:])


def test_a_limit_makes_the_windows_smaller_until_it_is_taken_away() -> None:
    limited, tokens = model_of(MODELS["some"]), tokens_of(2, 40)
    plain, smaller = (
        model_of(dataclasses.replace(FULL, window=window)) for window in ((3, 0, 40, 7, 4), (3, 5, 5, 5, 4))
    )
    limited.limit_windows(5)
    assert torch.equal(limited(*tokens), smaller(*tokens))
    limited.limit_windows(0)
    assert torch.equal(limited(*tokens), plain(*tokens))
    assert not torch.equal(plain(*tokens), smaller(*tokens))
