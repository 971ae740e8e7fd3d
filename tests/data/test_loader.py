from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_fast.data import Batches, TokenStream, write_shard
from golf_fast.data.batch import document_bounds
from golf_fast.errors import InputError

SIZES = (7, 1, 30, 12)


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Shards of odd sizes that hold 0, 1, 2, ... one after the other."""
    paths, start = [], 0
    for number, size in enumerate(SIZES):
        paths.append(tmp_path / f"x_train_{number:06d}.bin")
        write_shard(paths[-1], np.arange(start, start + size))
        start += size
    return paths


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(counts=st.lists(st.integers(0, 130), max_size=6), start=st.integers(0, 200))
def test_spans_cross_shards_and_the_whole_repeats(shards: list[Path], counts: list[int], start: int) -> None:
    stream = TokenStream(shards, 50)
    stream.seek(start)
    for count in counts:
        position = stream.position
        taken = stream.take(count)
        assert taken.dtype == np.uint16
        assert taken.tolist() == [token % 50 for token in range(position, position + count)]
    assert stream.position == start + sum(counts)


def seen(shards: list[Path], world_size: int, steps: int) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets of all ranks' micro-steps, in the order in which they lie in the data."""
    ranks = [Batches(TokenStream(shards, 50), rank, world_size, 24 * 8, 8, 6) for rank in range(world_size)]
    pieces = []
    for _ in range(steps * ranks[0].accumulation):
        for batches in ranks:
            x, y, documents = batches.next()
            assert documents is None
            assert x.shape == y.shape == (4, 6)
            assert x.dtype == y.dtype == torch.int64
            assert x.is_contiguous()
            assert y.is_contiguous()
            pieces.append((x.flatten().tolist(), y.flatten().tolist()))
    return pieces


def test_separate_documents_are_one_row_with_their_bounds(shards: list[Path]) -> None:
    joined = Batches(TokenStream(shards, 50), 1, 2, 48, 4, 4)
    separate = Batches(TokenStream(shards, 50), 1, 2, 48, 4, 4, separate=True)
    for _ in range(9):
        rows, row = joined.next(), separate.next()
        assert row.tokens.shape == row.targets.shape == (1, 12)
        assert torch.equal(row.tokens.flatten(), rows.tokens.flatten())
        assert torch.equal(row.targets.flatten(), rows.targets.flatten())
        assert row.documents is not None
        assert row.documents.tolist() == document_bounds(row.tokens[0].numpy(), 4).tolist()
    assert joined.state() == separate.state()


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_ranks_together_see_the_challenges_order(shards: list[Path], world_size: int) -> None:
    expected = []
    for piece in range(3 * 8):
        span = [token % 50 for token in range(25 * piece, 25 * piece + 25)]
        expected.append((span[:-1], span[1:]))
    assert seen(shards, world_size, steps=3) == expected


@pytest.mark.parametrize("pin", [False, True])
def test_the_position_can_be_restored(shards: list[Path], pin: bool) -> None:
    batches = Batches(TokenStream(shards, 50), 1, 2, 48, 4, 4, pin=pin)
    batches.next()
    state = batches.state()
    first = [batches.next() for _ in range(5)]
    batches.restore(state)
    again = [batches.next() for _ in range(5)]
    for batch, batch_again in zip(first, again, strict=True):
        assert torch.equal(batch.tokens, batch_again.tokens)
        assert torch.equal(batch.targets, batch_again.targets)
    other = Batches(TokenStream(shards, 50), 0, 2, 48, 4, 4)
    other.restore(state)
    assert other.next().tokens[0, 0] == 2 * 13 % 50


def test_preparing_ahead_changes_nothing(shards: list[Path]) -> None:
    plain = Batches(TokenStream(shards, 50), 0, 1, 48, 4, 4)
    ahead = Batches(TokenStream(shards, 50), 0, 1, 48, 4, 4, pin=True)
    for _ in range(9):
        assert plain.state() == ahead.state()
        expected, batch = plain.next(), ahead.next()
        assert torch.equal(expected.tokens, batch.tokens)
        assert torch.equal(expected.targets, batch.targets)


@pytest.mark.parametrize("world_size", [3, 16])
def test_a_world_size_that_does_not_divide_is_an_error(shards: list[Path], world_size: int) -> None:
    with pytest.raises(InputError, match=rf"world size {world_size}: it must divide train\.micro_batches = 8"):
        Batches(TokenStream(shards, 50), 0, world_size, 24 * 8, 8, 6)


def test_a_batch_that_does_not_divide_is_an_error(shards: list[Path]) -> None:
    with pytest.raises(InputError, match=r"train\.batch_tokens is 100: .* 8 \* 6 = 48"):
        Batches(TokenStream(shards, 50), 0, 1, 100, 8, 6)


@pytest.mark.parametrize("pin", [False, True])
def test_an_id_beyond_the_vocabulary_names_shard_and_id(shards: list[Path], pin: bool) -> None:
    batches = Batches(TokenStream(shards, 37), 0, 1, 24, 4, 6, pin=pin)
    for _ in range(5):
        batches.next()
    state = batches.state()
    with pytest.raises(InputError, match=r"x_train_000002\.bin: token 29 has id 37, beyond the vocabulary of 37"):
        batches.next()
    assert batches.state() == state


def test_a_missing_shard_is_an_error(shards: list[Path]) -> None:
    shards[2].unlink()
    with pytest.raises(InputError, match=r"x_train_000002\.bin: cannot be read"):
        TokenStream(shards, 50)
