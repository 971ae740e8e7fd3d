"""Every strategy: legal by its ledger, of the track that it states, and in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_scoring import score, small_config, small_gpt, some_tokens
from torch import Tensor

from golf_fast.config import ScoreConfig
from golf_fast.errors import InputError
from golf_fast.score import Ledger, Score
from golf_fast.score.ledger import cuts_of, read
from golf_fast.score.ttt import STRATEGIES
from golf_fast.score.verdict import Facts, judge
from golf_fast.score_config import DocumentsConfig, HeldOutConfig, PhasedConfig

TOKENS = some_tokens(37 * 4 + 20)
TRAINING = some_tokens(200, seed=3)
DOCUMENTS = DocumentsConfig(rank=3, lr=0.03, chunk_tokens=5, context=12, batch=3)


def config(name: str, **changes: object) -> ScoreConfig:
    return small_config(
        **{
            "ttt": name,
            "ttt_lr": 0.1,
            "allow_illegal": name == "train_then_score",
            "documents": DOCUMENTS,
            "phased": PhasedConfig(documents=4, phases=2, chunk_tokens=24, batch_rows=2, lr=0.1),
            "held_out": HeldOutConfig(tokens=200, lr=0.1, batch_rows=3),
            **changes,
        }
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_what_it_states(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    model = small_gpt(layers=2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    result = score(model, TOKENS, config(name), ledger=Ledger(path), training=TRAINING)
    verdict = judge(read(path), Facts(finished=True))
    assert result.track == verdict.track == STRATEGIES[name].track
    assert result.legal == verdict.legal == (name != "train_then_score")
    assert all(np.array_equal(a.detach(), b) for a, b in zip(model.parameters(), before, strict=True))
    assert all(parameter.requires_grad for parameter in model.parameters())
    if name != "off":
        off = score(small_gpt(layers=2), TOKENS, config("off"))
        assert np.abs(result.losses - off.losses).max() > 1e-3


@pytest.mark.parametrize("name", ["chunked", "documents", "phased"])
@pytest.mark.parametrize("position", [1, 4, 5, 20, 63, 64, 111, 150, 167])
def test_a_token_changes_no_loss_before_it(name: str, position: int) -> None:
    """Rule C1; the token after is no BOS in either, so that the documents stay."""
    changed = TOKENS.copy()
    changed[position] = 2 + (changed[position] + 9) % 38
    original = TOKENS.copy()
    original[position] = 2 + (changed[position] + 5) % 38
    losses = [score(small_gpt(layers=2), tokens, config(name)).losses for tokens in (original, changed)]
    own = losses[0][: position - 1], losses[1][: position - 1]
    if name == "chunked":
        assert np.array_equal(*own)
    else:  # in a batch of other documents the same numbers may be added in another order
        np.testing.assert_allclose(*own, rtol=1e-6)
    assert losses[0][position - 1] != losses[1][position - 1]


class Clock:
    """Seconds that pass with work and not with time: as many as a model is given tokens."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(name: str, seconds: float, dear: float = 0.0) -> tuple[float, list[str], int]:
    """How long a pass takes by such a clock, what is said meanwhile, and how often it trains."""
    said = list[str]()
    result, ledger = timed_pass(name, seconds, dear, said)
    return result.seconds, said, sum(event["event"] in ("train", "adapt") for event in ledger.events)


def timed_config(name: str, seconds: float) -> ScoreConfig:
    return config(name, max_seconds=seconds, batch_windows=1, documents=replace(DOCUMENTS, context=20, chunk_tokens=4))


def timed_pass(name: str, seconds: float, dear: float = 0.0, said: list[str] | None = None) -> tuple[Score, Ledger]:
    """A pass by such a clock, and its ledger; what is said meanwhile goes to `said`.

    The first calls to score windows, to train weights and to score with adapters take `dear` seconds more.
    """
    seen: set[object] = set()
    clock, model = Clock(), small_gpt(layers=2)
    log = None if said is None else said.append

    def slow(inner: Callable[..., object]) -> Any:
        def timed(tokens: Tensor, *arguments: object, **named: object) -> object:
            clock.now += tokens.numel()
            kind = "adapters" if len(arguments) > 2 else torch.is_grad_enabled()
            clock.now += 0 if kind in seen else dear
            seen.add(kind)
            return inner(tokens, *arguments, **named)

        return timed

    model.token_losses = slow(model.token_losses)  # type: ignore[method-assign]
    model.forward = slow(model.forward)  # type: ignore[method-assign]
    ledger = Ledger()
    c = timed_config(name, seconds)
    result = score(model, TOKENS, c, ledger=ledger, training=TRAINING, clock=clock, log=log)
    assert result.tokens == len(TOKENS) - 1
    assert result.seconds == clock.now
    assert result.legal
    return result, ledger


@pytest.mark.parametrize("name", ["chunked", "documents", "phased", "held_out"])
def test_a_score_comes_out_in_time(name: str) -> None:
    free, silent, steps = timed(name, 0.0)
    assert silent == []
    ample, silent, same = timed(name, 2 * free)
    assert (silent, same) == ([], steps)
    assert ample == free or (name == "held_out" and ample > free)  # it measures a pass first
    limit = 0.8 * free
    taken, said, fewer = timed(name, limit)
    assert taken <= limit
    assert said
    assert 0 < fewer <= steps
    assert taken < free


def test_epochs_are_given_up_before_chunks() -> None:
    free, _, chunks = timed("chunked", 0.0)
    taken, said, trained = timed("chunked", 0.95 * free)
    assert trained == chunks
    assert "there is time for 2 epoch(s) of the 3 of score.ttt_epochs" in said[0]
    assert taken <= 0.95 * free


@pytest.mark.parametrize("name", ["chunked", "documents", "phased", "held_out"])
def test_a_dear_first_call_ends_no_adapting(name: str) -> None:
    free, _, steps = timed(name, 0.0)
    taken, said, trained = timed(name, 2.5 * free, dear=free / 2)
    assert trained == steps
    assert taken <= 2.5 * free
    if name == "chunked":  # the first chunk waits for a rate
        assert len(said) == 1
        assert "in chunk 0 of 5 there is time for 2 epoch(s)" in said[0]
    else:
        assert said == []


def test_held_out_needs_training_tokens() -> None:
    with pytest.raises(InputError, match=r"held_out: it needs training tokens, and here are none"):
        score(small_gpt(layers=2), TOKENS, config("held_out"))
    with pytest.raises(InputError, match=r"at least 13 and not 12"):
        score(small_gpt(layers=2), TOKENS, config("held_out"), training=TRAINING[:12])


@pytest.mark.parametrize(("name", "setting"), [("documents", "score.documents.lr"), ("held_out", "score.held_out.lr")])
def test_a_rate_that_leaves_no_number_is_named(name: str, setting: str) -> None:
    broken = {
        "documents": DocumentsConfig(rank=3, lr=1e9, chunk_tokens=5, context=12, batch=3),
        "held_out": HeldOutConfig(tokens=200, lr=1e9, grad_clip=0.0, batch_rows=3),
    }
    with pytest.raises(InputError, match=rf"adapting with {setting} 1e\+09.* left no number"):
        score(small_gpt(layers=2), TOKENS, config(name, **broken), training=TRAINING)


@pytest.mark.parametrize("name", ["chunked", "documents", "phased", "held_out"])
def test_what_a_limit_cuts_is_on_record_and_can_be_made_again(name: str) -> None:
    free, _, _ = timed(name, 0.0)
    result, ledger = timed_pass(name, 0.8 * free)
    cuts = cuts_of(ledger.events)
    assert cuts
    assert ledger.events[0]["max_seconds"] == 0.8 * free
    assert f"cut short {len(cuts)} times" in " ".join(judge(ledger.events, Facts()).not_judged)
    again = Ledger()
    c = timed_config(name, 0.0)
    made = score(small_gpt(layers=2), TOKENS, c, ledger=again, training=TRAINING, cuts=cuts)
    assert np.array_equal(made.losses, result.losses)
    assert again.events[1:] == ledger.events[1:]
    freely = score(small_gpt(layers=2), TOKENS, c, training=TRAINING)
    assert not np.array_equal(freely.losses, result.losses)
