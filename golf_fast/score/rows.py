"""Validation tokens on a device, and rows of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from golf_fast.data import Batch


class TokenRows:
    """Tokens in 16 bits on a device, from which rows of inputs and targets are gathered."""

    def __init__(self, tokens: npt.NDArray[np.uint16], device: torch.device) -> None:
        """`tokens` is `[targets + 1]` uint16."""
        # As int16, since few operations know uint16; the sign is masked off after a row is gathered.
        self._tokens = torch.from_numpy(np.array(tokens).view(np.int16)).to(device)

    @property
    def targets(self) -> int:
        """How many tokens have a token before them."""
        return self._tokens.shape[0] - 1

    @property
    def device(self) -> torch.device:
        return self._tokens.device

    def gather(self, starts: Tensor, length: int) -> Batch:
        """Rows of `length` tokens from each of `starts` `[B]` int64 on.

        Returns:
            Contiguous tokens and targets, `[B, length]` each. Id 0 stands for what is beyond the end.
        """
        index = starts[:, None] + torch.arange(length + 1, device=self.device)
        ids = self._tokens[index.clamp(max=self.targets)].long() & 0xFFFF
        ids = ids.masked_fill_(index > self.targets, 0)
        return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())


class TrainingRows:
    """Rows that a `Ledger` handed out for training: `count` of them, `window` tokens each, one after another."""

    def __init__(self, source: TokenRows, start: int, count: int, window: int) -> None:
        self._source = source
        self._start = start
        self.count = count
        self.window = window

    def batch(self, first: int, stop: int) -> Batch:
        """Rows `first` to `stop` (exclusive): tokens and targets `[stop - first, window]`."""
        assert 0 <= first < stop <= self.count, f"rows {first} to {stop} of {self.count}"
        starts = torch.arange(first, stop, device=self._source.device) * self.window + self._start
        return self._source.gather(starts, self.window)
