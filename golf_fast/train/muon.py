"""Muon: momentum, orthogonalized (seed.md section 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from golf_fast import ops
from golf_fast.distributed import Ranks
from golf_fast.train.state import Piece


class Muon:
    """Momentum, orthogonalized (Jordan et al., 2024), for banks of matrices `[n, rows, cols]`.

    Every rank keeps all of the momentum, and orthogonalizes its share of each bank: banks are padded with zero
    matrices to a multiple of the world size, and the padding is dropped when the shares are gathered.

    Args:
        banks: parameters with 2 or 3 dimensions, by name.
        iterations: of Newton-Schulz.
        weight_decay: decoupled, times the learning rate.
        dtype: what Newton-Schulz computes in.
        ranks: who takes part.
    """

    def __init__(
        self,
        banks: Mapping[str, torch.nn.Parameter],
        *,
        iterations: int,
        weight_decay: float,
        dtype: torch.dtype,
        ranks: Ranks,
    ) -> None:
        self.names, self.banks = list(banks), list(banks.values())
        self.iterations = iterations
        self.weight_decay = weight_decay
        self.dtype = dtype
        self.ranks = ranks
        self.momentum = [torch.zeros_like(bank) for bank in self.banks]

    def state(self) -> dict[str, Piece]:
        """The momentum of each bank."""
        return {name: Piece.whole(velocity) for name, velocity in zip(self.names, self.momentum, strict=True)}

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        """Update the banks from their gradients, which must be equal on all ranks."""
        for bank, velocity in zip(self.banks, self.momentum, strict=True):
            assert bank.grad is not None, "a bank without a gradient"
            velocity.mul_(momentum).add_(bank.grad)
            direction = bank.grad.add(velocity, alpha=momentum)
            update = self._orthogonalize(direction.view(-1, *bank.shape[-2:])).view_as(bank)
            stretch = math.sqrt(max(1.0, bank.shape[-2] / bank.shape[-1]))
            bank.mul_(1 - lr * self.weight_decay).add_(update, alpha=-lr * stretch)

    def _orthogonalize(self, bank: torch.Tensor) -> torch.Tensor:
        world_size = self.ranks.world_size
        if world_size == 1:
            return ops.newton_schulz(bank, self.iterations, self.dtype)
        share = math.ceil(bank.shape[0] / world_size)
        padded = bank.new_zeros((share * world_size, *bank.shape[1:]), dtype=self.dtype)
        padded[: bank.shape[0]] = bank
        own = padded[self.ranks.rank * share : (self.ranks.rank + 1) * share]
        gathered = torch.empty_like(padded)
        self.ranks.all_gather_into(gathered, ops.newton_schulz(own, self.iterations, self.dtype).contiguous())
        return gathered[: bank.shape[0]]
