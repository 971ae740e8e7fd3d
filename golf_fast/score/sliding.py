"""The losses of a range of sliding windows, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from golf_fast.score.rows import TokenRows
from golf_fast.score.windows import Windows


class TokenLosses(Protocol):
    """`golf_fast.model.GPT.token_losses`, or its compiled form."""

    def __call__(self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0) -> Tensor: ...


@torch.inference_mode()
def score_windows(
    token_losses: TokenLosses,
    compiled: TokenLosses | None,
    rows: TokenRows,
    windows: Windows,
    first: int,
    stop: int,
    batch: int,
    losses: Tensor,
    progress: Callable[[int], None],
) -> None:
    """Write the losses of windows `first` to `stop` (exclusive) into `losses` `[targets]` float32.

    Args:
        token_losses: the `token_losses` of the model.
        compiled: its compiled form, for every batch but the first window, which has a different shape; None: the
            uncompiled form is used throughout.
        batch: number of windows per batch.
        progress: called after each batch with the number of windows done.
    """
    scorer = token_losses if compiled is None else compiled
    k = first
    if k == 0 < stop:
        length = windows.end(0)
        start = torch.zeros(1, dtype=torch.int64, device=rows.device)
        losses[:length] = token_losses(*rows.gather(start, length))[0]
        k = 1
        progress(k - first)
    while k < stop:
        after = min(k + batch, stop)
        # All compiled batches have the same shape, so there is one graph: a short one repeats its last window.
        size = after - k if compiled is None else batch
        starts = torch.arange(k, k + size, device=rows.device).clamp_(max=after - 1) * windows.stride
        scored = scorer(*rows.gather(starts, windows.window), first=windows.window - windows.stride)
        # The targets of the windows are contiguous; those of padding come after them.
        begin, end = windows.first_scored(k), windows.end(after - 1)
        losses[begin:end] = scored.reshape(-1)[: end - begin]
        k = after
        progress(k - first)
