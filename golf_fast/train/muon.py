"""Muon: momentum, orthogonalized (seed.md section 4)."""

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
    """A parameter of equal matrices, and the rows of it that this rank keeps the momentum of.

    Attributes:
        weight: `[n, rows, cols]`, or one matrix `[rows, cols]`, which every rank orthogonalizes.
        share: how many matrices each rank has, `ceil(n / world size)`; those past the end are padding, and 0.
        sharded: whether ranks have different shares.
        momentum: `[share, rows, cols]`.
    """

    name: str
    weight: torch.nn.Parameter
    share: int
    sharded: bool
    momentum: torch.Tensor

    @staticmethod
    def of(name: str, weight: torch.nn.Parameter, ranks: Ranks) -> Bank:
        """The bank with a momentum of 0."""
        sharded = weight.ndim == 3 and ranks.world_size > 1
        matrices = weight.shape[0] if weight.ndim == 3 else 1
        share = math.ceil(matrices / ranks.world_size) if sharded else matrices
        momentum = weight.new_zeros((share, *weight.shape[-2:]), requires_grad=False)
        return Bank(name, weight, share, sharded, momentum)

    @property
    def stretch(self) -> float:
        """The factor on the update of tall matrices."""
        rows, cols = self.weight.shape[-2:]
        return math.sqrt(max(1.0, rows / cols))

    def state(self, rank: int) -> Piece:
        """The momentum without padding."""
        if not self.sharded:
            return Piece.whole(self.momentum.view_as(self.weight))
        matrices = self.weight.shape[0]
        first = min(rank * self.share, matrices)
        return Piece(self.momentum[: min(self.share, matrices - first)], first, matrices)


class Muon:
    """Momentum, orthogonalized (Jordan et al., 2024), for banks of matrices `[n, rows, cols]`.

    A rank keeps the momentum of its share of each bank and orthogonalizes that; the updates, in the dtype of
    Newton-Schulz, are gathered while the next bank is at work.

    Args:
        banks: parameters with 2 or 3 dimensions, by name.
        iterations: of Newton-Schulz.
        coefficients: of Newton-Schulz, see `golf_fast.ops.newton_schulz`.
        row_normalize: divide each row by its L2 norm (plus 1e-7) before that (MuonEq-R).
        weight_decay: decoupled, times the learning rate.
        dtype: what Newton-Schulz computes in.
        ranks: who takes part.
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
        self.banks = [Bank.of(name, weight, ranks) for name, weight in banks.items()]
        self.iterations = iterations
        self.coefficients = coefficients
        self.row_normalize = row_normalize
        self.weight_decay = weight_decay
        self.dtype = dtype
        self.ranks = ranks

    def state(self) -> dict[str, Piece]:
        """The momentum of each bank, this rank's rows."""
        return {bank.name: bank.state(self.ranks.rank) for bank in self.banks}

    @torch.no_grad()
    def start(self, gradients: list[torch.Tensor], lr: float, momentum: float, ok: torch.Tensor | None) -> Finish:
        """Begin to update the banks.

        Args:
            gradients: of this rank's shares `[share, rows, cols]`, means over all ranks.
            lr: learning rate.
            momentum: share of the momentum that is kept.
            ok: bool scalar on the device; where it is false nothing changes. None: it is true.

        Returns:
            A function that waits for the other ranks' updates and moves the weights.
        """
        kept = [bank.momentum for bank in self.banks]
        if ok is None:
            moved = kept
            torch._foreach_mul_(moved, momentum)
        else:
            moved = list(torch._foreach_mul(kept, momentum))
        torch._foreach_add_(moved, gradients)
        directions = torch._foreach_add(gradients, moved, alpha=momentum)
        if ok is not None:
            for before, after in zip(kept, moved, strict=True):
                torch.where(ok, after, before, out=before)
        # The largest first: its updates travel while the others are at work.
        order = sorted(zip(self.banks, directions, strict=True), key=lambda pair: -pair[0].weight.numel())
        waiting = [(bank, self._orthogonalize(bank, direction)) for bank, direction in order]

        def finish() -> None:
            with torch.no_grad():
                for bank, update in waiting:
                    self._move(bank, update(), lr, ok)

        return finish

    def _orthogonalize(self, bank: Bank, direction: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Begin to gather the update; the returned function waits for it."""
        if self.row_normalize:
            direction = direction / (torch.linalg.vector_norm(direction, dim=-1, keepdim=True) + 1e-7)
        own = ops.newton_schulz(direction, self.iterations, self.dtype, self.coefficients)
        if not bank.sharded:
            return lambda: own
        gathered = own.new_empty((bank.share * self.ranks.world_size, *own.shape[1:]))
        wait = self.ranks.start_all_gather(gathered, own.contiguous())

        def update() -> torch.Tensor:
            wait()
            return gathered[: bank.weight.shape[0]]

        return update

    def _move(self, bank: Bank, update: torch.Tensor, lr: float, ok: torch.Tensor | None) -> None:
        weight, kept = bank.weight, 1 - lr * self.weight_decay
        moved = weight.mul_(kept) if ok is None else weight * kept
        moved.add_(update.reshape(weight.shape), alpha=-lr * bank.stretch)
        if ok is not None:
            torch.where(ok, moved, weight, out=weight)


Finish = Callable[[], None]
"""Ends what was begun."""
