"""The losses of a range of targets in one pass over the stream, for a model whose attention sees a window only.

Every token is computed once, and predicted from everything that can reach it, as in one continuous sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.model.cache import reach
from golf_fast.score.rows import TokenRows

_PIECE_TOKENS = {"cpu": 4096}
"""Number of tokens of one forward pass, by device type."""
_PIECE_TOKENS_ELSEWHERE = 65536


def require_windowed(model: GPT) -> int:
    """The number of earlier tokens that the loss of a target depends on.

    Raises:
        InputError: it depends on all of them, as a block of the model has no attention window.
    """
    far = reach(model.config)
    if far is None:
        raise InputError(
            f"score.streaming is True: model.window is {model.config.window}, and a block that sees all before it "
            "cannot be streamed; leave score.streaming off, or give every block a window"
        )
    return far


@torch.inference_mode()
def score_stream(
    model: GPT,
    rows: TokenRows,
    first: int,
    stop: int,
    losses: Tensor,
    progress: Callable[[int], None],
    piece: int | None = None,
) -> None:
    """Write the losses of targets `first` to `stop` (exclusive) into `losses` `[targets]`.

    The pass begins at the earliest token that `first` depends on, so the losses are those of the whole stream.

    Args:
        progress: called after each piece with the number of targets done.
        piece: number of tokens of one forward pass; None: a default for the device.

    Raises:
        InputError: a block of the model has no attention window.
    """
    size = piece or _PIECE_TOKENS.get(rows.device.type, _PIECE_TOKENS_ELSEWHERE)
    cache = model.new_cache()
    at = cache.position = max(0, first - require_windowed(model))
    while at < stop:
        after = min(at + size, stop)
        tokens, targets, _ = rows.gather(torch.full((1,), at, device=rows.device), after - at)
        scored = model.token_losses(tokens, targets, cache=cache)[0]
        begin = max(at, first)
        if begin < after:
            losses[begin:after] = scored[begin - at :]
            progress(after - first)
        at = after
