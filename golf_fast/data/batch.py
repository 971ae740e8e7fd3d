"""The batch: the rows of tokens that the loader, calibration and the scorer give to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from golf_fast.data.tokenizer import BOS_ID


class Batch(NamedTuple):
    """Rows of tokens, in the order of the model's arguments: `model(*batch)` is their mean loss.

    Attributes:
        tokens: `[B, T]` int64.
        targets: `[B, T]` int64, the token that follows each of `tokens`.
        documents: `cu_seqlens` `[n + 1]` int32 of a single row (B = 1): the start of each document, then the end of the
            last; documents may be empty. None: each row is one document.
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    documents: torch.Tensor | None = None

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The batch on a device; from pinned memory it can be transferred asynchronously."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        documents = None if self.documents is None else change(self.documents)
        return Batch(change(self.tokens), change(self.targets), documents)

    def joined(self, others: Sequence[Batch]) -> Batch:
        """The rows of this batch followed by those of `others`; with documents, all joined into a single row.

        Without others it is this batch itself.

        Raises:
            ValueError: some batches have documents and others do not.
        """
        if not others:
            return self
        batches = (self, *others)
        bounds = [batch.documents for batch in batches if batch.documents is not None]
        if len(bounds) not in (0, len(batches)):
            raise ValueError(f"{len(batches)} batches, {len(bounds)} of them with documents: all have some, or none")
        tokens, targets = (torch.cat(rows, dim=1 if bounds else 0) for rows in list(zip(*batches, strict=True))[:2])
        if not bounds:
            return Batch(tokens, targets)
        offsets = range(0, tokens.shape[1], self.tokens.shape[1])
        shifted = [each + offset for each, offset in zip(bounds, offsets, strict=True)]
        return Batch(tokens, targets, torch.cat(shifted))

    def with_documents(self, longest: int) -> Batch:
        """The rows joined into a single row, with the bounds of its documents; see `document_bounds`."""
        bounds = torch.from_numpy(document_bounds(self.tokens.flatten().cpu().numpy(), longest))
        return Batch(self.tokens.view(1, -1), self.targets.view(1, -1), bounds.to(self.tokens.device))


def document_bounds(tokens: npt.NDArray[np.integer[Any]], longest: int) -> npt.NDArray[np.int32]:
    """`cu_seqlens` of a row of tokens: each document starts at its BOS, and is cut into pieces of at most `longest`.

    The number of documents varies between rows, and a compiled model would be recompiled for each shape. So the length
    of the row is repeated at the end (as empty documents) up to a multiple of 64, or of a 64th of the row if that is
    more: rows whose documents have 64 tokens or more on average all have the same shape.

    Args:
        tokens: `[T]`; those before the first BOS belong to a document that started earlier.
        longest: greatest length of a document in tokens.

    Returns:
        int32 `[n + 1]`, from 0 to T.
    """
    starts = np.unique(np.append(np.flatnonzero(tokens == BOS_ID), 0))
    lengths = np.diff(np.append(starts, len(tokens)))
    cuts = -(-lengths // longest)
    number = np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts)
    begins = np.repeat(starts, cuts) + number * longest
    step = max(64, len(tokens) // 64)
    bounds = np.full(-(-(len(begins) + 1) // step) * step, len(tokens), np.int32)
    bounds[: len(begins)] = begins
    return bounds
