"""The probes catch seeded bugs and pass right models."""

import copy
import dataclasses
import io
import math
from collections.abc import Iterator

import numpy as np
import pytest
import sentencepiece
import torch
from helpers import top_models
from helpers.small_scoring import VOCABULARY, Tables, score, small_config, small_gpt
from torch import Tensor, nn
from torch.nn import functional as F

from golf_fast.data.token_bytes import token_bytes
from golf_fast.model import GPT
from golf_fast.score import probes

LENGTH = 40
BOS = 1


@pytest.fixture(scope="module")
def gpt() -> GPT:
    """Bigram and smear included, none of them zero."""
    return small_gpt().requires_grad_(False)


def top() -> GPT:
    """Every mechanism of the stack at the top, none of them zero."""
    made = GPT(dataclasses.replace(top_models.SMALL_TOP, vocab_size=VOCABULARY, smear_bos=BOS)).requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return made


class Attends(nn.Module):
    """A small model of one attention layer, with the bugs that `bug` names."""

    def __init__(self, bug: str = "", documents: bool = False, mask_smear: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.embed = nn.Parameter(torch.randn(VOCABULARY, 16, generator=generator))
        self.head = nn.Parameter(torch.randn(VOCABULARY, 16, generator=generator))
        self.bug, self.documents, self.mask_smear = bug, documents, mask_smear

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.embed[tokens]
        before = F.pad(x, (0, 0, 1, -1))
        if self.documents and self.mask_smear:
            before = before * (tokens != BOS)[..., None]
        x = x + 0.5 * before
        at = torch.arange(length)
        seen = at[:, None] >= at[None] - (1 if self.bug == "off by one" else 0)
        if self.bug == "one place":
            seen[length - 3, length - 2] = True
        elif self.bug == "second half":
            seen[length // 2 : -1] |= at[length // 2 : -1, None] >= at[None] - 2
        mask = seen.expand(len(tokens), -1, -1)
        if self.documents:
            document = (tokens == BOS).cumsum(1)
            mask = mask & (document[:, :, None] == document[:, None])
        weights = (x @ x.transpose(1, 2) / 4).masked_fill(~mask, -math.inf).softmax(-1)
        return (x + weights @ x) @ self.head.T


@pytest.mark.parametrize("name", ["seed", "top"])
def test_our_model_passes(name: str, gpt: GPT) -> None:
    gpt = gpt if name == "seed" else top()
    found = probes.causality(gpt.logits, VOCABULARY, LENGTH)
    assert found.passed, found
    assert probes.normalization(lambda t: gpt.logits(t).log_softmax(-1), VOCABULARY, LENGTH).passed
    assert probes.normalization(gpt.logits, VOCABULARY, LENGTH, logits=True).passed


@pytest.mark.parametrize("name", ["seed", "top"])
def test_our_model_keeps_packed_documents_apart(name: str, gpt: GPT) -> None:
    gpt = gpt if name == "seed" else top()

    def packed(tokens: Tensor) -> Tensor:
        rows = []
        for row in tokens:
            ends = [*(row == BOS).nonzero()[:, 0].tolist(), len(row)]
            rows.append(gpt.logits(row[None], torch.tensor(ends, dtype=torch.int32))[0])
        return torch.stack(rows)

    found = probes.isolation(packed, VOCABULARY, LENGTH, BOS)
    assert found.passed, found
    assert not probes.isolation(gpt.logits, VOCABULARY, LENGTH, BOS).passed  # one stream, which may look back


def test_a_right_model_passes() -> None:
    assert probes.causality(Attends(), VOCABULARY, LENGTH).passed
    assert probes.causality(Attends(documents=True), VOCABULARY, LENGTH).passed
    assert probes.isolation(Attends(documents=True), VOCABULARY, LENGTH, BOS).passed


@pytest.mark.parametrize(
    ("bug", "where"),
    [("off by one", "sees"), ("one place", f"position {LENGTH - 3} sees"), ("second half", "sees")],
)
def test_a_mask_that_looks_ahead_is_caught(bug: str, where: str) -> None:
    found = probes.causality(Attends(bug), VOCABULARY, LENGTH)
    assert not found.passed
    assert where in found.where
    assert found.amount > 0.01


def test_some_positions_only(gpt: GPT) -> None:
    assert probes.causality(Attends("one place"), VOCABULARY, LENGTH, positions=[1, 20]).passed
    assert not probes.causality(Attends("one place"), VOCABULARY, LENGTH, positions=[LENGTH - 2]).passed
    with pytest.raises(ValueError, match=f"position {LENGTH}: it must be from 1 to {LENGTH - 1}"):
        probes.causality(gpt.logits, VOCABULARY, LENGTH, positions=[LENGTH])


def test_a_model_that_mixes_rows_of_a_batch_is_caught() -> None:
    right = Attends()
    found = probes.causality(lambda t: right(t) + right(t).mean(0, keepdim=True), VOCABULARY, LENGTH)
    assert found.passed  # every row sees the same batch: that is no look ahead
    found = probes.causality(lambda t: right(t) + right(t).roll(1, 0), VOCABULARY, LENGTH)
    assert not found.passed


def test_a_smear_across_bos_is_caught() -> None:
    found = probes.isolation(Attends(documents=True, mask_smear=False), VOCABULARY, LENGTH, BOS)
    assert not found.passed
    assert "sees the document before its BOS" in found.where


def test_an_unnormalized_mixture_is_caught() -> None:
    right = Attends()

    def mixture(tokens: Tensor) -> Tensor:
        cache = torch.zeros(VOCABULARY)
        cache[3] = 0.4
        return torch.log(0.9 * right(tokens).softmax(-1) + cache)

    found = probes.normalization(mixture, VOCABULARY, LENGTH)
    assert not found.passed
    assert found.amount == pytest.approx(math.log(1.3), abs=1e-5)
    assert not probes.normalization(lambda t: right(t).log(), VOCABULARY, LENGTH, logits=True).passed
    assert not probes.normalization(lambda t: right(t)[..., :-1], VOCABULARY, LENGTH).passed


def test_a_cache_that_knows_the_true_token_only_is_caught() -> None:
    right = Attends()

    def honest(tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(right(tokens).transpose(1, 2), targets, reduction="none")

    def cached(tokens: Tensor, targets: Tensor) -> Tensor:
        known = ((tokens * 31 + targets * 17) % 5 == 0).double()
        return -torch.log(0.8 * (-honest(tokens, targets)).exp() + 0.2 * known)

    assert probes.normalization_of_losses(honest, VOCABULARY, LENGTH).passed
    assert not probes.normalization_of_losses(cached, VOCABULARY, LENGTH).passed


CHUNK = 8


def scorer(order: str):
    """A scorer that adapts a table chunk by chunk, in the order that `order` names."""
    start_table = torch.randn(12, 12, generator=torch.Generator().manual_seed(1)).double()

    def train(table: nn.Parameter, tokens: Tensor) -> None:
        loss = F.cross_entropy(table[tokens[:-1]], tokens[1:])
        (gradient,) = torch.autograd.grad(loss, table)
        table.data -= 2.0 * gradient

    def run(tokens: Tensor) -> Iterator[tuple[int, Tensor]]:
        table = nn.Parameter(copy.deepcopy(start_table))
        if order == "train, then score":
            train(table, tokens)
        for start in range(0, len(tokens) - 1, CHUNK):
            piece = tokens[start : start + CHUNK + 1]
            if order == "update first":
                train(table, piece)
            losses = F.cross_entropy(table[piece[:-1]], piece[1:], reduction="none")
            yield start, losses
            if order == "rescored" and start:
                yield start - CHUNK, losses
            if order in ("score first", "rescored"):
                train(table, piece)
        if order == "last again":
            yield start, losses

    return run


def test_score_first_passes() -> None:
    assert probes.single_pass(scorer("score first"), 12, 30).passed
    found = probes.adaptation(scorer("score first"), 12, 30, positions=[1, 7, 8, 9, 20, 29])
    assert found.passed, found


@pytest.mark.parametrize("order", ["train, then score", "update first"])
def test_an_update_before_the_score_is_caught(order: str) -> None:
    assert not probes.adaptation(scorer(order), 12, 30, positions=[4, 20]).passed


def test_an_update_on_the_first_target_of_a_chunk_shows_in_its_probabilities() -> None:
    """None before it in the chunk could move."""
    found = probes.adaptation(scorer("update first"), 12, 30, positions=[9])
    assert not found.passed
    assert "the probabilities of token 9 sum to" in found.where


@pytest.mark.parametrize(("protocol", "legal"), [("off", True), ("chunked", True), ("train_then_score", False)])
def test_our_scorer(protocol: str, legal: bool) -> None:
    config = small_config(ttt=protocol, allow_illegal=True)

    def ours(tokens: Tensor) -> list[tuple[int, Tensor]]:
        scored = score(Tables(), tokens.numpy().astype(np.uint16), config)
        return [(0, torch.from_numpy(scored.losses))]

    assert probes.single_pass(ours, VOCABULARY, 90).passed
    found = probes.adaptation(ours, VOCABULARY, 90, positions=[1, 36, 37, 38, 39, 88])
    assert found.passed is legal, found


@pytest.mark.parametrize(("order", "where"), [("last again", "is scored 2 times"), ("rescored", "is scored 2 times")])
def test_a_target_that_is_scored_again_is_caught(order: str, where: str) -> None:
    found = probes.single_pass(scorer(order), 12, 30)
    assert not found.passed
    assert where in found.where


def test_a_target_that_is_left_out_is_caught() -> None:
    found = probes.single_pass(lambda tokens: [(0, torch.ones(len(tokens) - 2))], 12, 30)
    assert not found.passed
    assert found.where == "target 28 is never scored"
    assert found.amount == 1
    assert not probes.single_pass(lambda tokens: [(0, torch.full((len(tokens) - 1,), math.nan))], 12, 30).passed
    assert not probes.single_pass(lambda tokens: [(0, torch.ones(len(tokens)))], 12, 30).passed


@pytest.fixture(scope="module")
def pieces() -> sentencepiece.SentencePieceProcessor:
    """A tokenizer of the challenge's kind, with byte fallback."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat and the hat on the mat", "a café then a tea and a toast"] * 20),
        model_writer=model,
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        character_coverage=0.99,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def test_our_byte_table_passes(pieces: sentencepiece.SentencePieceProcessor) -> None:
    table = token_bytes(pieces)
    found = probes.byte_accounting(lambda before, token: table.count(before, token).item(), pieces)
    assert found.passed, found


@pytest.mark.parametrize("bug", ["space twice", "byte tokens of three", "control tokens", "space after a boundary"])
def test_a_wrong_byte_table_is_caught(bug: str, pieces: sentencepiece.SentencePieceProcessor) -> None:
    table = token_bytes(pieces)
    base, boundary = table.base.copy(), table.boundary.copy()
    size = pieces.get_piece_size()
    if bug == "space twice":
        base = base + table.leading_space
    elif bug == "byte tokens of three":
        base[[token for token in range(size) if pieces.is_byte(token)]] = 3
    elif bug == "control tokens":
        base[[token for token in range(size) if pieces.is_control(token)]] = 3
    else:
        boundary = np.zeros_like(boundary)

    def count(before: int, token: int) -> float:
        return float(base[token] + (table.leading_space[token] and not boundary[before]))

    found = probes.byte_accounting(count, pieces)
    assert not found.passed
    kind = {"space twice": "leading space", "byte tokens of three": "byte-fallback", "control tokens": "control token"}
    assert kind.get(bug, "after a control token") in found.where
    assert found.amount == (2 if bug == "byte tokens of three" else 3 if bug == "control tokens" else 1)
