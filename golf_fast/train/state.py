"""The state of training between steps, as named tensors that may be sharded over ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from golf_fast.errors import InputError

Reader = Callable[[str, int, int], torch.Tensor]
"""`read(name, first, count)` returns rows `[first, first + count)` of the whole tensor `name`, on any device; it raises
an InputError if there is no such tensor or it has fewer rows."""


@dataclass(frozen=True)
class Piece:
    """This rank's rows of a tensor.

    Attributes:
        tensor: `[count, ...]`, rows `[first, first + count)` of the whole tensor; `count` may be 0. Training writes to
            this memory, so it must be copied before the next step to be kept.
        first: index of the first row.
        rows: number of rows of the whole tensor. If a rank has all of them, so have all other ranks.
    """

    tensor: torch.Tensor
    first: int
    rows: int

    @staticmethod
    def whole(tensor: torch.Tensor) -> Piece:
        """A tensor that every rank has in full; a scalar counts as one row."""
        tensor = tensor.detach()
        tensor = tensor.reshape(1) if tensor.ndim == 0 else tensor
        return Piece(tensor, 0, len(tensor))

    def fill(self, name: str, read: Reader) -> None:
        """Copy the stored tensor `name` into this piece.

        Raises:
            InputError: the stored tensor is of another shape or dtype.
        """
        kept = read(name, self.first, len(self.tensor))
        if kept.shape != self.tensor.shape or kept.dtype != self.tensor.dtype:
            raise InputError(
                f"{name} is {kept.dtype} {list(kept.shape)}: it must be {self.tensor.dtype} {list(self.tensor.shape)}, "
                "as this configuration has it"
            )
        self.tensor.copy_(kept)


def fill(pieces: dict[str, Piece], read: Reader) -> None:
    """Copy the stored tensor of the same name into each piece.

    Raises:
        InputError: a tensor is missing, or of another shape or dtype.
    """
    for name, piece in pieces.items():
        piece.fill(name, read)


def within(prefix: str, read: Reader) -> Reader:
    """A reader that puts `prefix` and a dot before each name."""
    return lambda name, first, count: read(f"{prefix}.{name}", first, count)
