"""What travels to the model: in the order of its arguments, whole, and never two rows of documents as one."""

import pytest
import torch

from golf_fast.data import Batch

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


def test_documents_of_two_rows_are_not_joined() -> None:
    alone = Batch(ROWS[:1], ROWS[:1], DOCUMENTS)
    with pytest.raises(ValueError, match="2 batches with documents"):
        alone.joined([alone])
