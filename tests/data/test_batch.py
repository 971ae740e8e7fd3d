"""What travels to the model: in the order of its arguments, whole, and never two rows of documents as one."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_fast.data import Batch
from golf_fast.data.batch import document_bounds

ROWS = torch.arange(12).view(2, 6)
DOCUMENTS = torch.tensor([0, 2, 6], dtype=torch.int32)


def test_a_batch_is_what_a_model_takes() -> None:
    def model(tokens: torch.Tensor, targets: torch.Tensor, documents: torch.Tensor | None) -> object:
        return tokens is ROWS, int(targets[0, 0]), documents

    assert model(*Batch(ROWS, ROWS + 1)) == (True, 1, None)
    assert model(*Batch(ROWS, ROWS + 1, DOCUMENTS))[2] is DOCUMENTS  # type: ignore[index]


def test_all_of_it_goes_to_a_device() -> None:
    there = Batch(ROWS, ROWS, DOCUMENTS).to(torch.device("meta"))
    assert isinstance(there, Batch)
    assert [tensor is not None and tensor.device.type for tensor in there] == ["meta"] * 3
    assert Batch(ROWS, ROWS).to(torch.device("meta")).documents is None


def test_rows_are_joined_in_order() -> None:
    joined = Batch(ROWS, ROWS + 1).joined([Batch(ROWS[:1] + 20, ROWS[:1] + 21)])
    assert joined.tokens[:, 0].tolist() == [0, 6, 20]
    assert torch.equal(joined.targets, joined.tokens + 1)
    alone = Batch(ROWS[:1], ROWS[:1], DOCUMENTS)
    assert alone.joined([]) is alone, "a copy would not be in pinned memory"


def test_rows_with_documents_become_one_row() -> None:
    one, two = Batch(ROWS[:1], ROWS[:1] + 1, DOCUMENTS), Batch(ROWS[1:], ROWS[1:] + 1, DOCUMENTS[[0, 2]])
    joined = one.joined([two, one])
    assert joined.tokens.tolist() == [[*range(12), *range(6)]]
    assert torch.equal(joined.targets, joined.tokens + 1)
    assert joined.documents is not None
    assert joined.documents.tolist() == [0, 2, 6, 6, 12, 12, 14, 18]
    assert joined.documents.dtype == torch.int32


def test_rows_become_one_with_the_documents_in_it() -> None:
    batch = Batch(ROWS, ROWS + 1).with_documents(4)
    assert (batch.tokens.tolist(), batch.targets.tolist()) == ([[*range(12)]], [[*range(1, 13)]])
    assert batch.documents is not None
    assert batch.documents[:5].tolist() == [0, 1, 5, 9, 12]


def test_rows_with_and_without_documents_are_not_joined() -> None:
    with pytest.raises(ValueError, match="2 batches, 1 of them with documents"):
        Batch(ROWS[:1], ROWS[:1], DOCUMENTS).joined([Batch(ROWS[:1], ROWS[:1])])


@pytest.mark.parametrize(
    ("tokens", "longest", "bounds"),
    [
        ([5] * 10, 20, [0]),
        ([5] * 10, 4, [0, 4, 8]),
        ([1, 5, 5, 1, 5], 9, [0, 3]),
        ([5, 1, 1, 5, 5, 5, 5, 1], 3, [0, 1, 2, 5, 7]),
        ([1], 3, [0]),
    ],
)
def test_documents_start_at_bos_and_are_cut_where_they_are_long(
    tokens: list[int], longest: int, bounds: list[int]
) -> None:
    found = document_bounds(np.array(tokens), longest)
    assert found.dtype == np.int32
    assert found.tolist() == bounds + [len(tokens)] * (64 - len(bounds))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=300), st.integers(1, 40))
def test_every_token_is_in_a_document_of_its_own_text(tokens: list[int], longest: int) -> None:
    bounds = document_bounds(np.array(tokens), longest)
    assert len(bounds) % 64 == 0
    lengths = np.diff(bounds)
    assert (bounds[0], bounds[-1], lengths.sum()) == (0, len(tokens), len(tokens))
    assert 0 <= lengths.min() <= lengths.max() <= longest
    for start, stop in itertools.pairwise(bounds.tolist()):
        assert 1 not in tokens[start + 1 : stop]


def test_the_shape_of_a_long_row_does_not_follow_its_documents() -> None:
    tokens = np.full(98304, 5)
    few = document_bounds(tokens, 2048)
    tokens[::80] = 1
    assert document_bounds(tokens, 2048).shape == few.shape == (1536,)
