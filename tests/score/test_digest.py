"""Hashes of weights and tokens: any bit, place or size shows, and a device or a copy does not."""

import hashlib

import numpy as np
import pytest
import torch

from golf_fast.score import digest


def some() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in ((7, 5), (3,), ())]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_bit_changes_the_hash(dtype: torch.dtype) -> None:
    before = [tensor.to(dtype) for tensor in some()]
    assert digest.of_tensors(before) == digest.of_tensors([tensor.clone() for tensor in before])
    seen = {digest.of_tensors(before)}
    for place in range(35):
        after = [tensor.clone() for tensor in before]
        after[0].view(-1).view(torch.uint8)[place * after[0].element_size()] ^= 1
        seen.add(digest.of_tensors(after))
    assert len(seen) == 36


def test_order_and_sizes_count() -> None:
    a, b, c = some()
    zeros = torch.zeros(4)
    hashes = [digest.of_tensors(tensors) for tensors in ([a, b, c], [b, a, c], [a.flatten()[:-1], b, c], [], [zeros])]
    assert len({*hashes, digest.of_tensors([zeros[:3]])}) == 6


def test_more_than_a_block_and_views_are_hashed_by_their_values() -> None:
    large = torch.arange(digest._BLOCK + 3, dtype=torch.float32)
    changed = large.clone()
    changed[-1] += 1
    assert digest.of_tensors([large]) != digest.of_tensors([changed])
    wide = torch.randn(6, 4)
    assert digest.of_tensors([wide.T]) == digest.of_tensors([wide.T.contiguous()])


def test_tokens_are_hashed_by_sha256_of_their_words() -> None:
    tokens = np.array([1, 300, 7, 65535, 9], np.uint16)
    words = np.array([300, 7, 9], "<u2").tobytes()
    assert digest.of_tokens(tokens, [(0, 2), (3, 4)]) == hashlib.sha256(words).hexdigest()[:16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hash_stays_what_it_was(dtype: torch.dtype) -> None:
    """Ledgers hold it: what was scored by the same weights yesterday must have the same name."""
    tensors = [torch.arange(40).to(dtype).view(5, 8) / 8, torch.ones(3, dtype=dtype)]
    assert digest.of_tensors(tensors) == {torch.float32: "a3083abf5812962b", torch.bfloat16: "d68303d63d7fc80b"}[dtype]


@pytest.mark.parametrize("size", [5, digest._BLOCK, digest._BLOCK + 3, 3 * digest._BLOCK])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_sums_as_the_host_does(size: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(2)).to(dtype)
    expected = digest.of_tensors([tensor])
    monkeypatch.setattr(digest, "_by_dot", digest._by_products)
    monkeypatch.setattr(digest, "_BLOCKS_AT_ONCE", 2)
    assert digest.of_tensors([tensor]) == expected


def test_a_hash_that_is_read_later_is_of_the_values_then() -> None:
    weights = torch.randn(6, 4)
    expected = digest.of_tensors([weights])
    later = digest.Later([weights])
    weights.add_(1)
    assert later.text == expected != digest.of_tensors([weights])
    assert digest.later([weights]) == digest.of_tensors([weights])
