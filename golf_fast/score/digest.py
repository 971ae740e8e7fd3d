"""Hashes of tensors and tokens, by which a ledger identifies their exact values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_BLOCK = 1 << 20
_BLOCKS_AT_ONCE = 16
"""Number of blocks in one product on a device, 128 MiB together."""
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_STEP = 6364136223846793005
_MODULUS = 1 << 64


class Later:
    """The hash of tensors as they are on construction; only `text` waits for their device."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        sums = [_sums(tensor.detach()) for tensor in tensors]
        self._counts = [(words, len(of_blocks)) for words, of_blocks in sums]
        self._sums = torch.cat([of_blocks for _, of_blocks in sums]) if sums else torch.zeros(0, dtype=torch.int64)

    @property
    def on_host(self) -> bool:
        """Whether `text` need not wait for a device."""
        return self._sums.device.type == "cpu"

    @cached_property
    def text(self) -> str:
        """The hash as 16 hexadecimal digits, as `of_tensors` returns it."""
        if not self._counts:
            return "0" * 16
        sums, content, place = self._sums.tolist(), b"", 0
        for words, blocks in self._counts:
            total = words
            for part in sums[place : place + blocks]:
                total = (total * _STEP + part) % _MODULUS
            content += total.to_bytes(8, "little")
            place += blocks
        return hashlib.sha256(content).hexdigest()[:16]


def later(tensors: Iterable[Tensor]) -> str | Later:
    """As `of_tensors`, without waiting for a device: the hash itself if the tensors are on the host, else a `Later`."""
    hashed = Later(tensors)
    return hashed.text if hashed.on_host else hashed


def of_tensors(tensors: Iterable[Tensor]) -> str:
    """A hash of 16 hexadecimal digits that depends on every bit of the tensors, their order and their sizes.

    The words of a tensor are multiplied by odd 64-bit factors and summed by block on its device, so that only one
    number per block is transferred; these numbers are hashed. It detects accidents and edits, but not an adversary who
    can choose every weight.
    """
    return Later(tensors).text


def of_tokens(tokens: npt.NDArray[np.uint16], ranges: Iterable[tuple[int, int]]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the targets in `ranges`, as 16-bit words; target i is token
    i + 1."""
    digest = hashlib.sha256()
    for start, stop in ranges:
        digest.update(np.ascontiguousarray(tokens[start + 1 : stop + 1], dtype="<u2").data)
    return digest.hexdigest()[:16]


def _sums(tensor: Tensor) -> tuple[int, Tensor]:
    """Number of words of a tensor, and the weighted sum of each block of words, `[blocks]` int64."""
    words = tensor.contiguous().view(-1).view(_WORDS[tensor.element_size()])
    count = words.numel()
    if not count:
        return 0, torch.zeros(0, dtype=torch.int64, device=words.device)
    summed = _by_dot if words.device.type == "cpu" else _by_products
    return count, summed(words, _factors(words.device))


def _by_dot(words: Tensor, factors: Tensor) -> Tensor:
    """The sums block by block, each while it is in the cache; only CPUs have a dot product of integer vectors."""
    parts = [words[start : start + _BLOCK] for start in range(0, len(words), _BLOCK)]
    return torch.stack([torch.dot(part.long(), factors[: len(part)]) for part in parts])


def _by_products(words: Tensor, factors: Tensor) -> Tensor:
    """The sums of several blocks per kernel, which widens the words as it reads them; the host does not wait."""
    whole, most = len(words) // _BLOCK * _BLOCK, _BLOCK * _BLOCKS_AT_ONCE
    parts = [
        (words[start : min(start + most, whole)].view(-1, _BLOCK) * factors).sum(1) for start in range(0, whole, most)
    ]
    rest = words[whole:]
    if len(rest):
        parts.append((rest * factors[: len(rest)]).sum()[None])
    return torch.cat(parts)


@lru_cache(maxsize=8)
def _factors(device: torch.device) -> Tensor:
    """Odd pseudo-random factors, `[_BLOCK]` int64."""
    mixed = torch.arange(1, _BLOCK + 1, dtype=torch.int64) * -7046029254386353131
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    return ((mixed ^ (mixed >> 32)) | 1).to(device)
