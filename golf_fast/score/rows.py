"""Validation tokens on a device, and rows of tokens for scoring and training."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from golf_fast.data import Batch


class TokenRows:
    """Tokens in 16 bits on a device, from which rows of inputs and targets are gathered."""

    def __init__(self, tokens: npt.NDArray[np.uint16], device: torch.device) -> None:
        """`tokens` is `[targets + 1]` uint16."""
        # Stored as int16, since few operations support uint16; the sign is masked off after a row is gathered.
        self._tokens = torch.from_numpy(np.array(tokens).view(np.int16)).to(device)

    @property
    def targets(self) -> int:
        """Number of targets: tokens that have a predecessor."""
        return self._tokens.shape[0] - 1

    @property
    def device(self) -> torch.device:
        return self._tokens.device

    def gather(self, starts: Tensor, length: int) -> Batch:
        """Rows of `length` tokens that start at `starts` `[B]` int64.

        Returns:
            Contiguous tokens and targets, `[B, length]` each, padded with id 0 past the end.
        """
        index = starts[:, None] + torch.arange(length + 1, device=self.device)
        ids = _ids(self._tokens[index.clamp(max=self.targets)])
        ids = ids.masked_fill_(index > self.targets, 0)
        return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())

    def on_host(self) -> npt.NDArray[np.uint16]:
        """All tokens, `[targets + 1]`."""
        return self._tokens.cpu().numpy().view(np.uint16)

    def copies(self, ranges: Sequence[tuple[int, int]], most: int) -> tuple[Tensor, Tensor]:
        """Copies of the first `most` inputs and targets of `ranges` of targets, each int16 `[most]`."""
        inputs = torch.cat([self._tokens[start:stop] for start, stop in ranges])[:most].clone()
        return inputs, torch.cat([self._tokens[start + 1 : stop + 1] for start, stop in ranges])[:most].clone()


class TrainingRows:
    """Rows that a `Ledger` handed out for training: a copy, which gives access to no other tokens."""

    def __init__(self, source: TokenRows, ranges: Sequence[tuple[int, int]], window: int) -> None:
        """Join the targets of `ranges` and cut them into rows of `window` tokens; an incomplete last row is dropped."""
        self.window = window
        self.count = sum(stop - start for start, stop in ranges) // window
        self._tokens, self._targets = source.copies(ranges, self.count * window)

    def part(self, first: int, stop: int) -> TrainingRows:
        """Rows `first` to `stop` (exclusive) of these."""
        assert 0 <= first < stop <= self.count, f"rows {first} to {stop} of {self.count}"
        part = copy(self)
        span = slice(first * self.window, stop * self.window)
        part.count, part._tokens, part._targets = stop - first, self._tokens[span], self._targets[span]
        return part

    def batch(self, first: int, stop: int) -> Batch:
        """Rows `first` to `stop` (exclusive): tokens and targets `[stop - first, window]`."""
        assert 0 <= first < stop <= self.count, f"rows {first} to {stop} of {self.count}"
        span = slice(first * self.window, stop * self.window)
        return Batch(*(_ids(part[span]).view(-1, self.window) for part in (self._tokens, self._targets)))


def of_training(tokens: npt.NDArray[np.uint16], window: int, device: torch.device) -> TrainingRows:
    """Rows of training tokens `[n]`, for which no ledger is needed."""
    return TrainingRows(TokenRows(tokens, device), [(0, len(tokens) - 1)], window)


def _ids(tokens: Tensor) -> Tensor:
    return tokens.long() & 0xFFFF
