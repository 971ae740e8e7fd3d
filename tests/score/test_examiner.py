"""What a strategy cannot do: train early, rescore, peek, keep a tensor, lie about its range, or learn in secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small_scoring import score, small_config, small_gpt, some_tokens

from golf_fast.score import Ledger, LegalityError, Score
from golf_fast.score.examiner import Excerpt
from golf_fast.score.rows import TokenRows
from golf_fast.score.ttt import STRATEGIES, Work

TOKENS = some_tokens(150)
Run = Callable[[Work], None]


@pytest.fixture
def graded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], Score]:
    """Makes a pass with a strategy of a test."""

    def make(run: Run) -> Score:
        monkeypatch.setitem(STRATEGIES, "chunked", replace(STRATEGIES["chunked"], run=run))
        return score(small_gpt(layers=2), TOKENS, small_config())

    return make


def some_windows(work: Work, count: int = 4) -> int:
    """Score the first windows; the number of targets that are scored then."""
    work.examiner.score_windows(0, count)
    return work.examiner.windows.end(count - 1)


def train_early(work: Work) -> None:
    done = some_windows(work)
    work.examiner.rows_for_training(done - 6, 1, 12)


def train_early_on_documents(work: Work) -> None:
    work.examiner.rows_of([(0, 20)], 4, "early")


def rescore(work: Work) -> None:
    some_windows(work)
    work.examiner.score_windows(2, 4)


def rescore_a_document(work: Work) -> None:
    start, stop = work.examiner.documents[0]
    for _ in range(2):
        work.examiner.score_excerpts([Excerpt(start, start, stop)], None, "again")


def skip(work: Work) -> None:
    work.examiner.score_windows(1, work.examiner.windows.count)


def score_the_end_of_a_document_first(work: Work) -> None:
    start, stop = work.examiner.documents[0]
    work.examiner.score_excerpts([Excerpt(start, start + 2, stop)], None, "end")


def score_across_documents(work: Work) -> None:
    (start, _), (_, stop) = work.examiner.documents[:2]
    work.examiner.score_excerpts([Excerpt(start, start, stop)], None, "both")


def lie_about_a_range(work: Work) -> None:
    some_windows(work)
    work.examiner.rows_for_training(-12, 2, 12)


def ask_beyond_the_end(work: Work) -> None:
    some_windows(work, work.examiner.windows.count - 1)
    work.examiner.rows_for_training(0, 1000, 12)


def stop_early(work: Work) -> None:
    some_windows(work)


def train_after_the_last(work: Work) -> None:
    some_windows(work, work.examiner.windows.count)
    work.examiner.rows_for_training(0, 1, 12)


def learn_in_secret(work: Work) -> None:
    done = some_windows(work)
    with torch.no_grad():
        work.model.tok_emb.mul_(1.01)
    assert done
    work.examiner.score_windows(4, 5)


def learn_again_from_a_kept_tensor(work: Work) -> None:
    """It keeps what it was given once, and trains on it later without asking."""
    some_windows(work)
    kept = work.examiner.rows_for_training(0, 1, 12).batch(0, 1)
    work.examiner.score_windows(4, 6)
    with torch.enable_grad():
        work.model(*kept).backward()
    with torch.no_grad():
        work.model.tok_emb -= 0.1 * work.model.tok_emb.grad
    work.examiner.score_windows(6, 8)


def learn_in_secret_uncounted(work: Work) -> None:
    """Torch does not count a change through `.data`."""
    some_windows(work)
    work.model.tok_emb.data.mul_(1.01)
    work.examiner.score_windows(4, work.examiner.windows.count)


def learn_in_secret_on_documents(work: Work) -> None:
    for start, stop in work.examiner.documents:
        for target in range(start, stop):
            work.examiner.score_excerpts([Excerpt(start, target, target + 1)], None, "one by one")
            work.model.tok_emb.data.mul_(1.0001)


def swap_a_parameter(work: Work) -> None:
    some_windows(work)
    work.model.tok_emb = torch.nn.Parameter(1.01 * work.model.tok_emb.detach())
    work.examiner.score_windows(4, 5)


def learn_while_it_is_scored(work: Work) -> None:
    """The tokens of a batch, seen on their way into the model, teach it before their losses are there."""
    inner = work.model.token_losses

    def peeking(tokens: torch.Tensor, targets: torch.Tensor, *more: object, **named: object) -> torch.Tensor:
        with torch.no_grad():
            work.model.tok_emb[targets.flatten()] += 0.01
        return inner(tokens, targets, *more, **named)  # type: ignore[arg-type]

    work.model.token_losses = peeking  # type: ignore[method-assign]
    some_windows(work)


def answer_for_the_model(work: Work) -> None:
    def known(tokens: torch.Tensor, targets: torch.Tensor, *_: object, **more: object) -> torch.Tensor:
        return torch.zeros_like(targets, dtype=torch.float32)[:, int(more.get("first", 0)) :]  # type: ignore[call-overload]

    work.model.token_losses = known  # type: ignore[method-assign]
    some_windows(work)


def watch_by_a_hook(work: Work) -> None:
    work.model.register_forward_pre_hook(lambda module, tokens: None)
    some_windows(work)


def read_the_future_as_context(work: Work) -> None:
    """Token -5 is one of the last."""
    _, stop = work.examiner.documents[0]
    work.examiner.score_excerpts([Excerpt(-5, 0, stop)], None, "early")


def read_another_document(work: Work) -> None:
    (start, stop), (_, end) = work.examiner.documents[:2]
    work.examiner.score_excerpts([Excerpt(start, start, stop)], None, "first")
    work.examiner.score_excerpts([Excerpt(start, stop, end)], None, "second")


def ask_again_after_a_refusal(work: Work) -> None:
    """What is refused gives no leave to change the weights."""
    done = some_windows(work)
    with pytest.raises(LegalityError, match="asked for training"):
        work.examiner.rows_for_training(done, 2, 12)
    with torch.no_grad():
        work.model.tok_emb.mul_(1.01)
    work.examiner.score_windows(4, 5)


def train_on_the_end_of_a_document(work: Work) -> None:
    start, stop = work.examiner.documents[0]
    scored = work.examiner.score_excerpts([Excerpt(start, start, stop)], None, "end", train=True)
    scored.loss(1)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (train_early, "are asked for training, but only 27 are scored"),
        (train_early_on_documents, "targets 0 to 20 are asked for training, but only 0 are scored"),
        (rescore, "each is scored once, from left to right"),
        (rescore_a_document, "each is scored once, from left to right"),
        (skip, "each is scored once, from left to right"),
        (score_the_end_of_a_document_first, "each is scored once, from left to right"),
        (score_across_documents, "are not within a document"),
        (lie_about_a_range, "targets -12 to 12 are not among the 149 there are"),
        (ask_beyond_the_end, "are not among the 149 there are"),
        (stop_early, "27 of 149 targets were scored: all must be"),
        (train_after_the_last, "after the last target was scored"),
        (learn_in_secret, "the weights changed, and the ledger handed out nothing"),
        (learn_again_from_a_kept_tensor, "the weights changed, and the ledger handed out nothing"),
        (learn_in_secret_uncounted, "the weights changed, and the ledger handed out nothing"),
        (learn_in_secret_on_documents, "the weights changed, and the ledger handed out nothing"),
        (swap_a_parameter, "the weights changed, and the ledger handed out nothing"),
        (learn_while_it_is_scored, "other functions or hooks|the weights changed"),
        (answer_for_the_model, "the model has other functions or hooks than it came with"),
        (watch_by_a_hook, "the model has other functions or hooks than it came with"),
        (read_the_future_as_context, "are read from -5 on, which is not in their document"),
        (read_another_document, "on, which is not in their document"),
        (ask_again_after_a_refusal, "the weights changed, and the ledger handed out nothing"),
        (train_on_the_end_of_a_document, "are the last of their document"),
    ],
)
def test_what_breaks_the_rules_is_refused(graded: Callable[[Run], Score], run: Run, said: str) -> None:
    with pytest.raises(LegalityError, match=said):
        graded(run)


def test_what_is_handed_out_reaches_no_other_token(graded: Callable[[Run], Score]) -> None:
    """Neither the memory behind a batch nor a write to it is that of the tokens to be scored."""

    def run(work: Work) -> None:
        done = some_windows(work)
        rows = work.examiner.rows_for_training(0, 2, 12)
        for tensor in (rows._tokens, rows._targets, *rows.batch(0, 2)[:2]):
            assert tensor.untyped_storage().nbytes() <= 24 * tensor.element_size()
            tensor.zero_()
        assert done == 27
        work.examiner.score_windows(4, work.examiner.windows.count)

    expected = score(small_gpt(layers=2), TOKENS, small_config(ttt="off"))
    assert np.array_equal(graded(run).losses, expected.losses)


@pytest.mark.parametrize("by", ["windows", "documents"])
def test_what_is_refused_leaves_no_loss(graded: Callable[[Run], Score], by: str) -> None:
    """A strategy that goes on after an error has the losses of the first time."""

    def run(work: Work) -> None:
        examiner = work.examiner
        if by == "windows":
            some_windows(work)
        else:
            for start, stop in examiner.documents:
                examiner.score_excerpts([Excerpt(start, start, stop)], None, "first")
        before = examiner.losses
        rows = examiner.rows_for_training(0, 1, 12) if by == "windows" else None
        if rows is not None:
            with torch.no_grad():
                work.model.tok_emb.mul_(1.1)
        else:
            work.model.tok_emb.data.mul_(1.1)
        first = [Excerpt(0, 0, examiner.documents[0][1])]
        with pytest.raises(LegalityError):
            examiner.score_windows(1, 3) if by == "windows" else examiner.score_excerpts(first, None, "again")
        assert torch.equal(examiner.losses, before)
        raise _Seen

    with pytest.raises(_Seen):
        graded(run)


class _Seen(Exception):
    """The test is at its end."""


def test_losses_are_given_as_a_copy(graded: Callable[[Run], Score]) -> None:
    def run(work: Work) -> None:
        some_windows(work, work.examiner.windows.count)
        work.examiner.losses.zero_()

    assert graded(run).nats > 0


def test_ranges_lie_within_one_ledger() -> None:
    ledger = Ledger()
    ledger.begin(TokenRows(TOKENS, torch.device("cpu")))
    with pytest.raises(LegalityError, match="targets 140 to 160 are not among the 149 there are"):
        ledger.unscored_rows(140, 5, 4)
