"""The Muon optimizer: orthogonalized momentum (seed.md section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from golf_fast import ops
from golf_fast.config import Coefficients
from golf_fast.distributed import Ranks
from golf_fast.train.state import Piece


@dataclass(frozen=True)
class Bank:
    """A parameter that holds matrices of equal shape, and how they are sharded over the ranks.

    Attributes:
        name: name of the parameter.
        weight: `[n, rows, cols]`, or one matrix `[rows, cols]`, which every rank orthogonalizes.
        share: number of matrices per rank, `ceil(n / world size)`; those past the end are padding of zeros.
        sharded: whether each rank has a different share.
    """

    name: str
    weight: torch.nn.Parameter
    share: int
    sharded: bool

    @staticmethod
    def of(name: str, weight: torch.nn.Parameter, ranks: Ranks) -> Bank:
        """The bank of a parameter, sharded over the ranks."""
        sharded = weight.ndim == 3 and ranks.world_size > 1
        matrices = weight.shape[0] if weight.ndim == 3 else 1
        share = math.ceil(matrices / ranks.world_size) if sharded else matrices
        return Bank(name, weight, share, sharded)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of this rank's matrices, `(share, rows, cols)`."""
        rows, cols = self.weight.shape[-2:]
        return self.share, rows, cols

    @property
    def stretch(self) -> float:
        """The factor on the update of tall matrices."""
        rows, cols = self.weight.shape[-2:]
        return math.sqrt(max(1.0, rows / cols))

    def piece(self, momentum: torch.Tensor, rank: int) -> Piece:
        """The momentum of this rank's matrices, without padding."""
        if not self.sharded:
            return Piece.whole(momentum.view_as(self.weight))
        matrices = self.weight.shape[0]
        first = min(rank * self.share, matrices)
        return Piece(momentum[: min(self.share, matrices - first)], first, matrices)


class Muon:
    """Muon (Jordan et al., 2024) for banks of matrices `[n, rows, cols]`.

    A rank keeps the momentum of its share of each bank and orthogonalizes it. The updates, in the dtype of
    Newton-Schulz, are gathered from all ranks while the next bank is being computed.

    Args:
        banks: parameters with 2 or 3 dimensions, by name.
        iterations: number of Newton-Schulz iterations.
        coefficients: coefficients of Newton-Schulz, see `golf_fast.ops.newton_schulz`.
        row_normalize: whether each row is divided by its L2 norm (plus 1e-7) before Newton-Schulz (MuonEq-R).
        weight_decay: decoupled weight decay, multiplied by the learning rate.
        dtype: dtype of Newton-Schulz.
        ranks: the ranks of the run.
    """

    def __init__(
        self,
        banks: Mapping[str, torch.nn.Parameter],
        *,
        iterations: int,
        coefficients: Coefficients = "quintic",
        row_normalize: bool = False,
        weight_decay: float,
        dtype: torch.dtype,
        ranks: Ranks,
    ) -> None:
        # The largest first: its updates are gathered while the others are computed.
        self.banks = [
            Bank.of(name, banks[name], ranks) for name in sorted(banks, key=lambda name: -banks[name].numel())
        ]
        self.row_normalize = row_normalize
        self.weight_decay = weight_decay
        self.dtype = dtype
        self.ranks = ranks
        shapes, first = [bank.shape for bank in self.banks], self.banks[0].weight
        self._flat_banks = ops.FlatBanks(shapes, iterations, dtype, coefficients, first.device)
        self.momentum = first.new_zeros(sum(map(math.prod, shapes)), requires_grad=False)
        """Momentum of this rank's matrices, one bank after the other, `[total]`."""

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Views `[share, rows, cols]` of the banks in a tensor laid out like `momentum`."""
        return self._flat_banks.split(flat)

    def state(self) -> dict[str, Piece]:
        """This rank's rows of the momentum of each bank."""
        pieces = zip(self.banks, self.split(self.momentum), strict=True)
        return {bank.name: bank.piece(momentum, self.ranks.rank) for bank, momentum in pieces}

    @torch.no_grad()
    def start(
        self,
        gradient: torch.Tensor,
        lr: float,
        momentum: float,
        clip: torch.Tensor | None,
        failed: torch.Tensor | None,
    ) -> Finish:
        """Begin to update the banks.

        Args:
            gradient: mean gradient over all ranks of this rank's matrices, laid out like `momentum`.
            lr: learning rate.
            momentum: share of the momentum that is kept.
            clip: factor on the gradient, a scalar on the device; None: 1.
            failed: float32 scalar on the device, 1 to leave everything unchanged, else 0; None: 0.

        Returns:
            A function that waits for the updates of the other ranks and applies them to the weights.
        """
        direction = ops.nesterov(gradient, self.momentum, momentum, clip, failed)
        if self.row_normalize:
            for matrices in self.split(direction):
                matrices.div_(torch.linalg.vector_norm(matrices, dim=-1, keepdim=True) + 1e-7)
        updates = zip(self.banks, self._flat_banks(direction), strict=True)
        waiting = [self._gather(bank, update) for bank, update in updates]

        def finish() -> None:
            with torch.no_grad():
                self._move([update() for update in waiting], lr, failed)

        return finish

    def _gather(self, bank: Bank, own: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Begin to gather the update of a bank from all ranks; the returned function waits for it and returns it."""
        if not bank.sharded:
            return lambda: own
        gathered = own.new_empty((bank.share * self.ranks.world_size, *own.shape[1:]))
        wait = self.ranks.start_all_gather(gathered, own.contiguous())

        def update() -> torch.Tensor:
            wait()
            return gathered[: bank.weight.shape[0]]

        return update

    def _move(self, updates: list[torch.Tensor], lr: float, failed: torch.Tensor | None) -> None:
        """Apply weight decay and updates; where `failed` is 1 the updates are 0, and there is no decay either."""
        kept = 1 - lr * self.weight_decay
        weights: list[torch.Tensor] = [bank.weight for bank in self.banks]
        if failed is None:
            torch._foreach_mul_(weights, kept)
        else:  # a factor on the device must have the weights' dtype to take one kernel
            torch._foreach_mul_(weights, failed.to(weights[0].dtype).clamp(min=kept))
        for bank, update in zip(self.banks, updates, strict=True):
            bank.weight.add_(update.reshape(bank.weight.shape), alpha=-lr * bank.stretch)


Finish = Callable[[], None]
"""Completes an update that was begun."""
