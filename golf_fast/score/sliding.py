"""The losses of a range of sliding windows, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from golf_fast.model import GPT
from golf_fast.score.rows import TokenRows
from golf_fast.score.windows import Windows


# Not inference mode: what a model keeps from this pass (its rotary tables) is used again when it is trained.
@torch.no_grad()
def score_windows(
    model: GPT,
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
        batch: windows at a time.
        progress: called after each batch with the number of windows done.
    """
    k = first
    if k == 0 < stop:
        length = windows.end(0)
        inputs, targets = rows.gather(torch.zeros(1, dtype=torch.int64, device=rows.device), length)
        losses[:length] = model.token_losses(inputs, targets)[0]
        k = 1
        progress(k - first)
    while k < stop:
        after = min(k + batch, stop)
        # Every batch on a GPU has one shape, so that a compiled model is compiled once: the last window fills it up.
        size = batch if rows.device.type == "cuda" else after - k
        starts = torch.arange(k, k + size, device=rows.device).clamp_(max=after - 1) * windows.stride
        inputs, targets = rows.gather(starts, windows.window)
        scored = model.token_losses(inputs, targets, first=windows.window - windows.stride)
        # The windows' own targets lie end to end; padding, of a short last window or a full batch, comes after them.
        begin, end = windows.first_scored(k), windows.end(after - 1)
        losses[begin:end] = scored.reshape(-1)[: end - begin]
        k = after
        progress(k - first)
