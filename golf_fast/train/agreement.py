"""Checks by a hash that all ranks hold the same weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from golf_fast.distributed import Ranks
from golf_fast.errors import StoppedError

_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer dtype with the same bits, by the bytes of a number."""
_STRIDE, _FACTOR = -0x61C8864680B583EB, -0x40A7B892E31B1A47
"""Odd multipliers, minus 2^64: 2^64 over the golden ratio, and the first of splitmix64 (Steele, Lea and Flood,
2014)."""


@torch.no_grad()
def fingerprint(tensor: torch.Tensor) -> torch.Tensor:
    """A hash of the bits of a tensor and of their positions: int64 scalar on its device, for any shape and dtype.

    The bits and the index of each number are mixed, and the results summed modulo 2^64. The hash detects accidental
    differences; it is not cryptographic.
    """
    bits = tensor.detach().contiguous().reshape(-1)
    mixed = torch.arange(len(bits), device=bits.device).mul_(_STRIDE).add_(bits.view(_WORDS[bits.element_size()]))
    for shift in (30, 27):
        mixed.bitwise_xor_(mixed >> shift).mul_(_FACTOR)
    return mixed.sum()


def require_agreement(tensors: Mapping[str, torch.Tensor], ranks: Ranks, step: int) -> None:
    """Check that the tensors are bit-identical on all ranks; waits for the device.

    Raises:
        StoppedError: they are not; raised on every rank, and names the first tensor and rank that differ.
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
