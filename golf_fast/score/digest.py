"""Short names for the exact values of tensors and tokens, as a ledger holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_BLOCK = 1 << 20
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def of_tensors(tensors: Iterable[Tensor]) -> str:
    """16 hexadecimal digits that change with any bit of the tensors, their order or their sizes.

    Words of a tensor are summed with odd 64-bit factors on its device, so that only a number travels; these numbers are
    hashed. Accidents and edits show; it is no guard against somebody who can choose every weight.
    """
    sums = [_sum(tensor.detach()) for tensor in tensors]
    if not sums:
        return "0" * 16
    content = torch.stack(sums).cpu().numpy().astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def of_tokens(tokens: npt.NDArray[np.uint16], ranges: Iterable[tuple[int, int]]) -> str:
    """16 hexadecimal digits of the targets in `ranges`, target i being token i + 1: SHA-256 of their 16-bit words."""
    digest = hashlib.sha256()
    for start, stop in ranges:
        digest.update(np.ascontiguousarray(tokens[start + 1 : stop + 1], dtype="<u2").data)
    return digest.hexdigest()[:16]


def _sum(tensor: Tensor) -> Tensor:
    words = tensor.contiguous().view(-1).view(_WORDS[tensor.element_size()])
    factors = _factors(tensor.device)
    total = torch.full((), words.numel(), dtype=torch.int64, device=tensor.device)
    for start in range(0, words.numel(), _BLOCK):
        block = words[start : start + _BLOCK].long()
        total = total * 6364136223846793005 + (block * factors[: len(block)]).sum()
    return total


@lru_cache(maxsize=8)
def _factors(device: torch.device) -> Tensor:
    """Odd numbers `[_BLOCK]` int64, that look random."""
    mixed = torch.arange(1, _BLOCK + 1, dtype=torch.int64) * -7046029254386353131
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    return ((mixed ^ (mixed >> 32)) | 1).to(device)
