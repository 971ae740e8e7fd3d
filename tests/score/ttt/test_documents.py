"""Documents with adapters of their own: what a document loses does not depend on who is beside it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.small_scoring import score, small_config, small_gpt

from golf_fast.config import ModelConfig, ScoreConfig
from golf_fast.data.batch import document_bounds
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.model.adapters import Fresh, LowRank, widths
from golf_fast.score import Ledger
from golf_fast.score.ttt.documents import _cost, excerpt, shared_out
from golf_fast.score_config import DocumentsConfig, PhasedConfig

LENGTHS = (7, 31, 18, 5, 12, 31, 26, 9)
DOCUMENTS = DocumentsConfig(rank=3, lr=0.03, chunk_tokens=6, context=14, batch=3)


def stream(lengths: tuple[int, ...] = LENGTHS, seed: int = 2) -> npt.NDArray[np.uint16]:
    """Documents of these lengths, BOS included; the token after the last is a BOS too."""
    random = np.random.default_rng(seed)
    pieces = [np.concatenate(([1], random.integers(2, 40, length - 1))) for length in lengths]
    return np.concatenate([*pieces, [1]]).astype(np.uint16)


def config(**changes: Any) -> ScoreConfig:
    return small_config(ttt="documents", documents=replace(DOCUMENTS, **changes))


def wide() -> GPT:
    """In float64, so that what is left of a difference is a fault."""
    model = small_gpt(layers=2)
    made = GPT(model.config, compute_dtype=torch.float64, seed=None).double()
    made.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    return made


def by_hand(model: GPT, tokens: npt.NDArray[np.uint16], c: DocumentsConfig) -> list[float]:
    """Each document by itself, chunk after chunk, with an AdamW written out."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    starts = [*np.flatnonzero(tokens[:-1] == 1).tolist(), len(tokens) - 1]
    names = [name for name in ("q", "k", "v", "o", "mlp", "head") if getattr(c, name)]
    sizes = widths(model.config, model.plan, names)
    fresh = Fresh.drawn(sizes, c.rank, c.alpha / c.rank, torch.device("cpu"), torch.float64)
    losses: list[float] = []
    for start, stop in itertools.pairwise(starts):
        adapters = fresh.rows(1)
        parts = [part for pair in adapters.pairs.values() for part in pair]
        means, squares = ([torch.zeros_like(part) for part in parts] for _ in range(2))
        for step, first in enumerate(range(start, stop, c.chunk_tokens), 1):
            end = min(first + c.chunk_tokens, stop)
            begin = max(start, first + c.chunk_tokens - c.context)
            row = ids[None, begin : end + 1]
            found = model.token_losses(row[:, :-1], row[:, 1:], None, first - begin, adapters)[0]
            losses += found.tolist()
            if end == stop:
                break
            gradients = torch.autograd.grad(found.mean(), parts)
            for part, gradient, m, v in zip(parts, gradients, means, squares, strict=True):
                m.mul_(c.beta1).add_((1 - c.beta1) * gradient)
                v.mul_(c.beta2).add_((1 - c.beta2) * gradient**2)
                root = (v / (1 - c.beta2**step)).sqrt() + c.eps
                with torch.no_grad():
                    part.mul_(1 - c.lr * c.weight_decay).sub_(c.lr * m / (1 - c.beta1**step) / root)
    return losses


@pytest.mark.parametrize("changes", [{}, {"q": False, "head": False}, {"k": False, "o": False}, {"beta1": 0.9}])
def test_losses_are_those_of_each_document_by_hand(changes: dict[str, Any]) -> None:
    c = replace(DOCUMENTS, **changes)
    found = score(wide(), stream(), small_config(ttt="documents", documents=c))
    np.testing.assert_allclose(found.losses, by_hand(wide(), stream(), c), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
@pytest.mark.parametrize("order", ["stream", "length"])
def test_batches_and_their_order_change_nothing(batch: int, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 to 1e-10, which the losses must be kept in for this."""
    kept = [score(wide(), stream(), config(), ledger=(ledger := Ledger())).nats]
    other = score(wide(), stream(), config(batch=batch, order=order))
    assert other.nats == pytest.approx(kept[0], rel=1e-10)
    assert other.order == (order if batch < len(LENGTHS) else "stream"), "one batch has all documents begin together"
    assert ledger.complete


def separate() -> GPT:
    """A model that keeps documents separate."""
    model = wide()
    model.config = replace(model.config, separate_documents=True)
    return model


def test_a_model_that_keeps_documents_separate_is_scored_as_it_was_trained() -> None:
    """Losses without adapting are those of one row with the bounds of its documents, as the loader makes it."""
    tokens, ledger = stream(), Ledger()
    c = small_config(ttt="off", documents=replace(DOCUMENTS, context=64))
    found = score(separate(), tokens, c, ledger=ledger)
    ids = torch.from_numpy(tokens.astype(np.int64))[None]
    bounds = torch.from_numpy(document_bounds(tokens[:-1], 64))
    row = separate().token_losses(ids[:, :-1], ids[:, 1:], bounds)[0]
    np.testing.assert_allclose(found.losses, row.detach().numpy(), rtol=1e-6)
    joined = score(wide(), tokens, c)
    assert not np.allclose(joined.losses[LENGTHS[0] :], found.losses[LENGTHS[0] :], rtol=1e-3)
    assert (found.track, found.violations, ledger.complete) == ("A", [], True)


def test_a_pass_over_scored_text_keeps_documents_separate_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor | None] = []
    model = separate()
    monkeypatch.setattr(model, "forward", lambda *batch: seen.append(batch[2]) or GPT.forward(model, *batch))
    c = small_config(
        ttt="phased", documents=DOCUMENTS, phased=PhasedConfig(documents=4, phases=1, chunk_tokens=32, batch_rows=2)
    )
    score(model, stream(), c)
    assert len(seen) >= 2
    assert all(bounds is not None and len(bounds.unique()) > 2 for bounds in seen)


def test_long_documents_are_read_from_half_a_context_before() -> None:
    found = score(separate(), stream((40,)), small_config(ttt="off", documents=DOCUMENTS)).losses
    ids = torch.from_numpy(stream((40,)).astype(np.int64))[None]
    piece = wide().token_losses(ids[:, 7:21], ids[:, 8:22])[0, 7:]
    np.testing.assert_allclose(found[14:21], piece.detach().numpy(), rtol=1e-6)


def test_neighbours_change_no_bit_in_the_same_slot_and_shape() -> None:
    """The second document of a batch of three, whose neighbours are as long as before and have other words."""
    lengths = (20, 20, 20)
    tokens, others = stream(lengths), stream(lengths, seed=9)
    others[20:40] = tokens[20:40]
    found, beside = (score(small_gpt(layers=2), each, config()).losses for each in (tokens, others))
    assert np.array_equal(found[20:40], beside[20:40])
    assert not np.array_equal(found[:19], beside[:19])


def test_adapters_start_anew_in_each_document() -> None:
    """The same document three times in a row loses the same each time."""
    document = stream((26,))[:-1]
    tokens = np.concatenate([document, document, document, [1]]).astype(np.uint16)
    losses = score(wide(), tokens, config(batch=1)).losses.reshape(3, 26)
    np.testing.assert_allclose(losses[1:], losses[:1].repeat(2, 0), rtol=1e-9)


def test_a_document_is_read_from_its_own_beginning() -> None:
    assert excerpt((10, 100), 0, 6, 14) == (10, 10, 16)
    assert excerpt((10, 100), 6, 6, 14) == (10, 16, 22)
    assert excerpt((10, 100), 12, 6, 14) == (14, 22, 28)
    assert excerpt((10, 24), 12, 6, 14) == (14, 22, 24)


def test_the_last_chunk_of_a_document_is_not_trained_on() -> None:
    ledger = Ledger()
    score(small_gpt(layers=2), stream((7, 12, 13)), config(batch=3), ledger=ledger)
    trained = [event for event in ledger.events if event["event"] == "train"]
    assert [event.get("ranges", [[event["start"], event["stop"]]]) for event in trained] == [
        [[19, 25], [7, 13], [0, 6]],
        [[25, 31]],
    ]


def test_without_a_bos_the_stream_is_one_document() -> None:
    tokens = np.arange(2, 36).astype(np.uint16)
    ledger = Ledger()
    assert score(small_gpt(layers=2), tokens, config(), ledger=ledger).tokens == 33
    assert ledger.documents.tolist() == [0, 33]


def test_only_chosen_places_have_adapters() -> None:
    model = GPT(ModelConfig(vocab_size=300, dim=16, layers=3, heads=2, kv_heads=1, bigram_buckets=0))
    sizes = widths(model.config, model.plan, ["v", "head"])
    assert set(sizes.values()) == {(16, 8), (16, 300)}
    assert len(sizes) == 3 + 1
    pair = next(iter(Fresh.drawn(sizes, 2, 1.0, torch.device("cpu")).rows(5).pairs.values()))
    assert isinstance(pair, LowRank)
    assert (pair.a.shape, pair.b.shape) == ((5, 2, 16), (5, 8, 2))


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_groups_are_dealt_out_evenly_and_each_once(world_size: int) -> None:
    """Waiting for each other after each stretch costs less than groups in turn, and waiting once."""
    lengths = 20 + np.random.default_rng(4).lognormal(6.5, 1.0, (800, 64)).astype(int)
    costs = [_cost([(0, length) for length in group], DocumentsConfig()) for group in lengths.tolist()]
    stretches = shared_out(costs, Ranks(0, world_size, torch.device("cpu")))
    done = 0
    for stretch in stretches:
        groups = sorted(k for share in stretch for k in share)
        assert groups == list(range(done, done + len(groups)))
        done += len(groups)
        taken = [sum(costs[k] for k in share) for share in stretch]
        assert max(taken) - min(taken) <= max(costs[k] for k in groups)
    assert done == len(costs)
    waited = sum(max(sum(costs[k] for k in share) for share in stretch) for stretch in stretches)
    in_turn = max(sum(costs[rank::world_size]) for rank in range(world_size))
    assert waited <= in_turn
    assert len(stretches) == -(-800 // (12 * world_size))
