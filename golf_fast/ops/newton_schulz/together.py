"""Newton-Schulz for several banks that lie in one tensor: on a GPU one pass divides all matrices by their norms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch

from golf_fast.ops import backends
from golf_fast.ops.checks import product_dtypes, require_dtype
from golf_fast.ops.newton_schulz import OP, newton_schulz, operators
from golf_fast.ops.newton_schulz.reference import Coefficients, divisor


class Together:
    """Orthogonalizes banks of matrices; arguments beside the shapes as in `golf_fast.ops.newton_schulz`.

    Args:
        shapes: `(n, rows, cols)` of each bank.
        device: of the banks.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        iterations: int,
        dtype: torch.dtype,
        coefficients: Coefficients,
        device: torch.device,
    ) -> None:
        self._shapes, self._iterations, self._dtype, self._coefficients = shapes, iterations, dtype, coefficients
        # Pieces of this length have numbers of one matrix only.
        self._length = math.gcd(*(rows * cols for _, rows, cols in shapes))
        self._device = device

    @cached_property
    def _of_one_matrix(self) -> torch.Tensor:
        """1 where two pieces are of one matrix, else 0; `[pieces, pieces]`, made once where it is needed."""
        pieces = [rows * cols // self._length for n, rows, cols in self._shapes for _ in range(n)]
        matrices = [matrix for matrix, count in enumerate(pieces) for _ in range(count)]
        matrix_of = torch.tensor(matrices, device=self._device)
        return (matrix_of[:, None] == matrix_of).float()

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """The banks in a tensor `[total]` of all their numbers, as views `[n, rows, cols]`."""
        pieces = torch.split(flat, [math.prod(shape) for shape in self._shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def __call__(self, flat: torch.Tensor) -> Iterator[torch.Tensor]:
        """Each orthogonalized bank in turn, begun when it is asked for; flat `[total]` must not change before."""
        if not normalizes_together(flat.device):
            for bank in self.split(flat):
                yield newton_schulz(bank, self._iterations, self._dtype, self._coefficients)
            return
        require_dtype(OP, "dtype", self._dtype, product_dtypes(flat.device), "reference")
        for bank in self.split(self._normalized(flat)):
            yield operators.iterate(bank, self._iterations, self._coefficients)

    def _normalized(self, flat: torch.Tensor) -> torch.Tensor:
        """Each matrix over its norm, `[total]`, rounded once to the dtype of the iterations."""
        pieces = flat.view(-1, self._length)
        norms = torch.linalg.vector_norm(pieces, dim=1, dtype=torch.float32)
        norms = torch.linalg.vector_norm(norms * self._of_one_matrix, dim=1, keepdim=True)
        out = torch.empty_like(pieces, dtype=self._dtype)
        return torch.div(pieces, divisor(norms, self._coefficients), out=out).view(-1)


def normalizes_together(device: torch.device) -> bool:
    """Whether the backend of this device takes banks whose matrices were divided by their norms before."""
    return backends.resolve(OP, device).name == "triton"
