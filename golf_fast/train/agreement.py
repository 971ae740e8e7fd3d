"""Whether all ranks hold the same weights, by a hash of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from golf_fast.distributed import Ranks
from golf_fast.errors import StoppedError

_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of a number -> the integers whose bits its own are read as."""
_STRIDE, _FACTOR = -0x61C8864680B583EB, -0x40A7B892E31B1A47
"""Odd: 2^64 over the golden ratio, and the first factor of splitmix64 (Steele, Lea and Flood, 2014), minus 2^64."""


@torch.no_grad()
def fingerprint(tensor: torch.Tensor) -> torch.Tensor:
    """A hash of a tensor's bits and of where they are, int64 scalar, on its device; any shape and dtype.

    Each number's bits and place are mixed, and the results added up, modulo 2^64. It tells tensors apart that differ by
    accident, not by intent.
    """
    bits = tensor.detach().contiguous().reshape(-1)
    mixed = torch.arange(len(bits), device=bits.device).mul_(_STRIDE).add_(bits.view(_WORDS[bits.element_size()]))
    for shift in (30, 27):
        mixed.bitwise_xor_(mixed >> shift).mul_(_FACTOR)
    return mixed.sum()


def require_agreement(tensors: Mapping[str, torch.Tensor], ranks: Ranks, step: int) -> None:
    """See that the tensors of these names are equal to the last bit on all ranks; waits for the device.

    Raises:
        StoppedError: they are not; says where, on every rank.
    """
    if ranks.world_size == 1:
        return
    own = torch.stack([fingerprint(tensor) for tensor in tensors.values()]).cpu()
    of_all = ranks.all_gather_into(own.new_empty(ranks.world_size, *own.shape), own)
    for rank, of_rank in enumerate(of_all.tolist()):
        for name, expected, found in zip(tensors, of_all[0].tolist(), of_rank, strict=True):
            if expected != found:
                raise StoppedError(
                    f"{name} of rank {rank} differs from rank 0's after step {step}: ranks must hold the same weights; "
                    "a machine that computes wrongly, or different versions of programs, can cause this"
                )
