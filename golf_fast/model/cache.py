"""What a sequence that is read piece by piece leaves for its next piece."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from golf_fast.config import ModelConfig
from golf_fast.model.plan import plan_of

TOKENS_BEFORE = 2
"""Tokens before a position that its embedding depends on: the smear's predecessor, and that one's in its bigram."""


class Past:
    """Keys and values that a slot of a plan has computed, `[B, T, kv_heads, head_dim]` each: those that later positions
    can see.

    Args:
        window: positions that attention sees, each position's own included; None: all before it.
    """

    def __init__(self, window: int | None) -> None:
        self._window = window
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def extend(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of new positions, turned by where they are, with those before them that they can see."""
        if self._kept is not None:
            k, v = (torch.cat(pair, dim=1) for pair in zip(self._kept, (k, v), strict=True))
        if self._window is None:
            self._kept = k, v
        else:  # copies: a view would keep all of the piece
            start = max(0, k.shape[1] - (self._window - 1))
            self._kept = k[:, start:].clone(), v[:, start:].clone()
        return k, v


class Cache:
    """The state of a sequence that `GPT.token_losses` or `GPT.logits` reads piece by piece.

    With one every piece continues those before it: all together they give what the uncut sequence would. Positions
    count on from piece to piece; where they are far from 0, rotary angles are more exact than those of an uncut
    sequence, as they are made in float64.

    Args:
        windows: of the slots of the model's plan.
    """

    def __init__(self, windows: Sequence[int | None]) -> None:
        self.position = 0
        """Tokens read."""
        self.pasts = [Past(window) for window in windows]
        """Of each slot."""
        self._tokens: torch.Tensor | None = None

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens `[B, T]` behind those before them that their embedding depends on; the position moves on."""
        joined = tokens if self._tokens is None else torch.cat((self._tokens, tokens), dim=1)
        self._tokens = joined[:, max(0, joined.shape[1] - TOKENS_BEFORE) :].clone()
        self.position += tokens.shape[1]
        return joined


def reach(config: ModelConfig) -> int | None:
    """How many tokens before a position its loss depends on, at most; None: on all of them."""
    windows = [config.windows[slot.layer] for slot in plan_of(config).slots]
    seen = [window - 1 for window in windows if window is not None]
    return None if len(seen) < len(windows) else sum(seen) + TOKENS_BEFORE
