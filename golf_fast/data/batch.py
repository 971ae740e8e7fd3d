"""What travels from the loader, the calibration and the scorer to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Rows of tokens, in the order of the model's arguments: `model(*batch)` is their mean loss.

    Attributes:
        tokens: `[B, T]` int64.
        targets: `[B, T]` int64, the token after each.
        documents: `cu_seqlens` `[n + 1]` int32, where the documents of a single row (B = 1) start and the last ends;
            None: each row is one.
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    documents: torch.Tensor | None = None

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The same on a device; from pinned memory it may travel while the device works."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same in pinned memory."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        documents = None if self.documents is None else change(self.documents)
        return Batch(change(self.tokens), change(self.targets), documents)

    def joined(self, others: Sequence[Batch]) -> Batch:
        """The rows of this one, then those of others; this one itself where there are none.

        Raises:
            ValueError: there are others, and documents, whose bounds are those of a single row.
        """
        if not others:
            return self
        batches = (self, *others)
        if any(batch.documents is not None for batch in batches):
            raise ValueError(f"{len(batches)} batches with documents: each has one row and runs by itself")
        return Batch(torch.cat([batch.tokens for batch in batches]), torch.cat([batch.targets for batch in batches]))
