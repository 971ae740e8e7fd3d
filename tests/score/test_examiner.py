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
