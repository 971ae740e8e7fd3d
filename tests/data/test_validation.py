"""Byte counts of validation tokens: of each target, once, and an error that names what cannot be counted."""

import dataclasses
import itertools

import numpy as np
import pytest
from helpers.small_scoring import VOCABULARY, some_bytes, some_tokens

from golf_fast.data import Validation
from golf_fast.errors import InputError


@pytest.mark.parametrize("piece", [1, 7, 88, 89, 90, 1 << 22])
def test_bytes_of_each_target_are_counted_across_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, lengths = some_tokens(90), some_bytes()
    monkeypatch.setattr("golf_fast.data.validation._COUNTED_AT_ONCE", piece)
    validation = Validation.counted(tokens, lengths)
    expected = [
        int(lengths.base[target]) + (bool(lengths.leading_space[target]) and not lengths.boundary[before])
        for before, target in itertools.pairwise(tokens)
    ]
    assert validation.byte_counts.tolist() == expected
    assert validation.byte_counts.dtype == np.uint16
    assert (validation.targets, validation.bytes) == (89, sum(expected))
    assert np.array_equal(validation.tokens, tokens)


def test_a_sum_beyond_16_bits_is_whole() -> None:
    tokens = np.zeros(10_001, np.uint16)
    assert Validation(tokens, np.full(10_000, 65535, np.uint16)).bytes == 655_350_000


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_tokens_are_named(count: int) -> None:
    with pytest.raises(InputError, match=f"validation tokens are {count}: at least 2"):
        Validation.counted(some_tokens(count), some_bytes())
    with pytest.raises(InputError, match=f"validation tokens are {count}: at least 2"):
        Validation(some_tokens(count), np.zeros(0, np.uint16))


def test_a_foreign_id_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = some_tokens(30)
    foreign[17] = VOCABULARY
    for piece in (1 << 22, 5):
        monkeypatch.setattr("golf_fast.data.validation._COUNTED_AT_ONCE", piece)
        with pytest.raises(InputError, match="validation token 17 is 40: the tokenizer has 40 ids"):
            Validation.counted(foreign, some_bytes())


def test_tokens_without_text_are_named() -> None:
    nothing = dataclasses.replace(
        some_bytes(), base=np.zeros(VOCABULARY, np.int16), leading_space=np.zeros(VOCABULARY, np.bool_)
    )
    with pytest.raises(InputError, match="the 30 validation tokens stand for 0 bytes"):
        Validation.counted(some_tokens(30), nothing)


def test_counts_of_other_targets_are_no_counts() -> None:
    with pytest.raises(AssertionError):
        Validation(some_tokens(30), np.ones(30, np.uint16))


def test_tokens_before_the_first_document_are_one() -> None:
    """And a document that would begin at the last token has no target."""
    tokens = np.array([9, 8, 1, 7, 6, 1, 5, 1], np.uint16)
    starts, sizes = Validation(tokens, np.array([3, 0, 4, 5, 0, 6, 0], np.uint16)).documents()
    assert starts.tolist() == [0, 2, 5]
    assert sizes.tolist() == [3, 9, 6]
