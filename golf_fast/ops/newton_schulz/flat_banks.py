"""Newton-Schulz for several banks stored one after the other in one flat tensor: on a GPU a single pass normalizes all
matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch

from golf_fast.ops import backends
from golf_fast.ops.checks import product_dtypes, require_dtype
from golf_fast.ops.newton_schulz import OP, newton_schulz, operators
from golf_fast.ops.newton_schulz.reference import Coefficients, divisor


class FlatBanks:
    """Orthogonalizes banks of matrices; the other arguments are those of `golf_fast.ops.newton_schulz`.

    Args:
        shapes: shape `(n, rows, cols)` of each bank.
        device: device of the banks.
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
        # The longest piece length that never spans two matrices.
        self._length = math.gcd(*(rows * cols for _, rows, cols in shapes))
        self._device = device

    @cached_property
    def _of_one_matrix(self) -> torch.Tensor:
        """`[pieces, pieces]` float32: 1 where two pieces belong to the same matrix, else 0."""
        pieces = [rows * cols // self._length for n, rows, cols in self._shapes for _ in range(n)]
        matrices = [matrix for matrix, count in enumerate(pieces) for _ in range(count)]
        matrix_of = torch.tensor(matrices, device=self._device)
        return (matrix_of[:, None] == matrix_of).float()

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """The banks of a flat tensor `[total]`, as views `[n, rows, cols]`."""
        pieces = torch.split(flat, [math.prod(shape) for shape in self._shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def __call__(self, flat: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield each bank of `flat` `[total]` orthogonalized, one at a time: `flat` must not change meanwhile."""
        if not normalizes_together(flat.device):
            for bank in self.split(flat):
                yield newton_schulz(bank, self._iterations, self._dtype, self._coefficients)
            return
        require_dtype(OP, "dtype", self._dtype, product_dtypes(flat.device), "reference")
        for bank in self.split(self._normalized(flat)):
            yield operators.iterate(bank, self._iterations, self._coefficients)

    def _normalized(self, flat: torch.Tensor) -> torch.Tensor:
        """Each matrix divided by its norm, `[total]`, rounded once to the dtype of the iterations."""
        pieces = flat.view(-1, self._length)
        norms = torch.linalg.vector_norm(pieces, dim=1, dtype=torch.float32)
        norms = torch.linalg.vector_norm(norms * self._of_one_matrix, dim=1, keepdim=True)
        out = torch.empty_like(pieces, dtype=self._dtype)
        return torch.div(pieces, divisor(norms, self._coefficients), out=out).view(-1)


def normalizes_together(device: torch.device) -> bool:
    """Whether the backend of this device expects matrices that are already divided by their norms."""
    return backends.resolve(OP, device).name == "triton"
