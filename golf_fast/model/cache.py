"""The key-value cache: the state that a sequence read piece by piece carries from one piece to the next."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from golf_fast.config import ModelConfig
from golf_fast.model.plan import plan_of

TOKENS_BEFORE = 2
"""Number of earlier tokens that the embedding of a position depends on: the one that the smear mixes in, and the one
before that, which is in its bigram."""


class Past:
    """The keys and values of one slot that later positions can still see, `[B, T, kv_heads, head_dim]` each.

    Args:
        window: number of positions that attention sees, including the query's own; None: all up to the query's.
    """

    def __init__(self, window: int | None) -> None:
        self._window = window
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def extend(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the keys and values of new positions, with rotary embedding applied, and return them together with
        the earlier ones that the new positions can see."""
        if self._kept is not None:
            k, v = (torch.cat(pair, dim=1) for pair in zip(self._kept, (k, v), strict=True))
        if self._window is None:
            self._kept = k, v
        else:  # a copy: a view would keep the whole piece in memory
            start = max(0, k.shape[1] - (self._window - 1))
            self._kept = k[:, start:].clone(), v[:, start:].clone()
        return k, v


class Cache:
    """The state of sequences that `GPT.token_losses` or `GPT.logits` reads piece by piece.

    Each piece continues those before it, and together they give what the whole sequence would give. The rotary angles
    of pieces after the first are computed in float64 and so are more exact than those of a whole sequence.

    Args:
        windows: the attention window of each slot of the model's plan, in positions; None: no window.
    """

    def __init__(self, windows: Sequence[int | None]) -> None:
        self.position = 0
        """Number of tokens read so far."""
        self.pasts = [Past(window) for window in windows]
        """Keys and values of each slot."""
        self._tokens: torch.Tensor | None = None

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Advance by `tokens` `[B, T]`, and return them preceded by the earlier tokens that their embedding depends
        on."""
        joined = tokens if self._tokens is None else torch.cat((self._tokens, tokens), dim=1)
        self._tokens = joined[:, max(0, joined.shape[1] - TOKENS_BEFORE) :].clone()
        self.position += tokens.shape[1]
        return joined


def reach(config: ModelConfig) -> int | None:
    """The greatest number of earlier tokens that the loss of a position depends on; None: it depends on all."""
    windows = [config.windows[slot.layer] for slot in plan_of(config).slots]
    seen = [window - 1 for window in windows if window is not None]
    return None if len(seen) < len(windows) else sum(seen) + TOKENS_BEFORE
