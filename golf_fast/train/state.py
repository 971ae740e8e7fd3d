"""What a training remembers between steps, as named tensors that may be spread over ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from golf_fast.errors import InputError

Reader = Callable[[str, int, int], torch.Tensor]
"""`read(name, first, count)`: rows `[first, first + count)` of the whole tensor `name`, on any device; it raises an
InputError where there is no such tensor or it has fewer rows."""


@dataclass(frozen=True)
class Piece:
    """This rank's rows of a tensor.

    Attributes:
        tensor: `[count, ...]`, rows `[first, first + count)` of the whole; the memory that training writes to, so what
            keeps it copies it before the next step. `count` may be 0.
        first: index of the first row.
        rows: how many rows the whole has. A rank that has all of them has the same as every other.
    """

    tensor: torch.Tensor
    first: int
    rows: int

    @staticmethod
    def whole(tensor: torch.Tensor) -> Piece:
        """All of a tensor that every rank has; a scalar counts as one row."""
        tensor = tensor.detach()
        tensor = tensor.reshape(1) if tensor.ndim == 0 else tensor
        return Piece(tensor, 0, len(tensor))

    def fill(self, name: str, read: Reader) -> None:
        """Copy what is kept under `name` into the tensor.

        Raises:
            InputError: what is kept is of another shape or dtype.
        """
        kept = read(name, self.first, len(self.tensor))
        if kept.shape != self.tensor.shape or kept.dtype != self.tensor.dtype:
            raise InputError(
                f"{name} is {kept.dtype} {list(kept.shape)}: it must be {self.tensor.dtype} {list(self.tensor.shape)}, "
                "as this configuration has it"
            )
        self.tensor.copy_(kept)


def fill(pieces: dict[str, Piece], read: Reader) -> None:
    """Copy what is kept under the name of each piece into it.

    Raises:
        InputError: something is missing, or of another shape or dtype.
    """
    for name, piece in pieces.items():
        piece.fill(name, read)


def within(prefix: str, read: Reader) -> Reader:
    """A reader of the names below `prefix`."""
    return lambda name, first, count: read(f"{prefix}.{name}", first, count)
