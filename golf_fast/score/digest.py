"""Short names for the exact values of tensors and tokens, as a ledger holds them."""

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
"""Blocks of one product on a device: 128 MiB."""
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_STEP = 6364136223846793005
_MODULUS = 1 << 64


class Later:
    """The hash of tensors as they were when it was made; only `text` waits for their device."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        sums = [_sums(tensor.detach()) for tensor in tensors]
        self._counts = [(words, len(of_blocks)) for words, of_blocks in sums]
        self._sums = torch.cat([of_blocks for _, of_blocks in sums]) if sums else torch.zeros(0, dtype=torch.int64)

    @property
    def on_host(self) -> bool:
        """Whether nothing needs to be waited for."""
        return self._sums.device.type == "cpu"

    @cached_property
    def text(self) -> str:
        """16 hexadecimal digits, as `of_tensors`."""
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
    """As `of_tensors`, without waiting for a device: at once where the tensors are on the host."""
    hashed = Later(tensors)
    return hashed.text if hashed.on_host else hashed


def of_tensors(tensors: Iterable[Tensor]) -> str:
    """16 hexadecimal digits that change with any bit of the tensors, their order or their sizes.

    Words of a tensor are summed with odd 64-bit factors on its device, so that only a number for each block travels;
    these numbers are hashed. Accidents and edits show; it is no guard against somebody who can choose every weight.
    """
    return Later(tensors).text


def of_tokens(tokens: npt.NDArray[np.uint16], ranges: Iterable[tuple[int, int]]) -> str:
    """16 hexadecimal digits of the targets in `ranges`, target i being token i + 1: SHA-256 of their 16-bit words."""
    digest = hashlib.sha256()
    for start, stop in ranges:
        digest.update(np.ascontiguousarray(tokens[start + 1 : stop + 1], dtype="<u2").data)
    return digest.hexdigest()[:16]


def _sums(tensor: Tensor) -> tuple[int, Tensor]:
    """How many words a tensor has, and the sum `[blocks]` int64 of each block of them, times their factors."""
    words = tensor.contiguous().view(-1).view(_WORDS[tensor.element_size()])
    count = words.numel()
    if not count:
        return 0, torch.zeros(0, dtype=torch.int64, device=words.device)
    summed = _by_dot if words.device.type == "cpu" else _by_products
    return count, summed(words, _factors(words.device))


def _by_dot(words: Tensor, factors: Tensor) -> Tensor:
    """Block after block while it is in the cache; other devices have no product of integer vectors."""
    parts = [words[start : start + _BLOCK] for start in range(0, len(words), _BLOCK)]
    return torch.stack([torch.dot(part.long(), factors[: len(part)]) for part in parts])


def _by_products(words: Tensor, factors: Tensor) -> Tensor:
    """Some blocks in each kernel: the words are widened as they are read, and no host waits."""
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
    """Odd numbers `[_BLOCK]` int64, that look random."""
    mixed = torch.arange(1, _BLOCK + 1, dtype=torch.int64) * -7046029254386353131
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    return ((mixed ^ (mixed >> 32)) | 1).to(device)
