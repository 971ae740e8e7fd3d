"""Test-time training: SGD on rows that the ledger handed out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from golf_fast.config import ScoreConfig, compiles
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.model.parameters import Row
from golf_fast.score.rows import TrainingRows

_MICRO_BATCH_TOKENS = {"cpu": 4096}
"""Tokens of a rank in one forward and backward pass, by device type; larger shares of a step are accumulated."""
_MICRO_BATCH_TOKENS_ELSEWHERE = 65536

Spans = list[tuple[int, int]]
"""For each rank, the rows `(first, stop)` that it takes of a training step."""


class Adapter:
    """The optimizer of one scoring pass: SGD whose momentum lives as long as the pass."""

    def __init__(self, model: GPT, config: ScoreConfig, ranks: Ranks) -> None:
        """Adapt all of `model` but its first `config.ttt_freeze_blocks` blocks.

        Raises:
            InputError: the model has fewer blocks than are to be frozen.
            ValueError: a parameter of the model has no row in the table of parameters, or a row no parameter.
        """
        self._config = config
        self._ranks = ranks
        claimed = model.claimed("test-time training")
        self._parameters = [parameter for _, parameter in claimed]
        self._frozen = _slices_of_blocks(claimed, config.ttt_freeze_blocks)
        self._loss: Callable[..., Tensor] = model
        if compiles(config.compile, ranks.device.type):
            self._loss = torch.compile(model, dynamic=False, fullgraph=True)
        self._optimizer = torch.optim.SGD(self._parameters, lr=config.ttt_lr, momentum=config.ttt_momentum)

    def train_on_chunk(self, rows: TrainingRows, chunk: int, chunks: int) -> None:
        """The legal protocol's epochs over the rows of a chunk; a step takes `ttt_batch_rows` over all ranks."""
        batch = self._config.ttt_batch_rows
        steps = [self._shares(first, min(first + batch, rows.count)) for first in range(0, rows.count, batch)]
        self._train(rows, steps, rate(self._config, chunk, chunks))

    def train_on_everything(self, rows: TrainingRows) -> None:
        """The published protocol's epochs: a rank's contiguous share, `ttt_batch_rows` of it a step. Not legal."""
        batch = self._config.ttt_batch_rows
        shares = self._shares(0, rows.count)
        longest = max(stop - first for first, stop in shares)
        steps = [
            [(min(first + done, stop), min(first + done + batch, stop)) for first, stop in shares]
            for done in range(0, longest, batch)
        ]
        self._train(rows, steps, self._config.ttt_lr)

    def _shares(self, first: int, stop: int) -> Spans:
        size = self._ranks.world_size
        return [Ranks(rank, size, self._ranks.device).share(first, stop) for rank in range(size)]

    def _train(self, rows: TrainingRows, steps: list[Spans], lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        with torch.enable_grad():
            for _ in range(self._config.ttt_epochs):
                for spans in steps:
                    self._step(rows, spans)
        self._optimizer.zero_grad()

    def _step(self, rows: TrainingRows, spans: Spans) -> None:
        """One update by the gradient of the mean loss over all ranks' rows."""
        self._optimizer.zero_grad()
        total = sum(stop - first for first, stop in spans)
        first, stop = spans[self._ranks.rank]
        limit = _MICRO_BATCH_TOKENS.get(self._ranks.device.type, _MICRO_BATCH_TOKENS_ELSEWHERE)
        size = max(1, limit // rows.window)
        # Compiled, each number of rows is a graph. A pass has three at most: `size`, and what it leaves of a whole step
        # and of the last, for all chunks that are trained on are equally long. All come again in every epoch.
        for begin in range(first, stop, size):
            end = min(begin + size, stop)
            loss = self._loss(*rows.batch(begin, end))
            # The mean over ranks divides by their number: each row then weighs 1 / total, however they are shared.
            (loss * ((end - begin) * self._ranks.world_size / total)).backward()  # type: ignore[no-untyped-call]
        for parameter in self._parameters:
            if parameter.grad is None:  # a rank without a row in this step
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        self._ranks.all_mean_(gradients)
        for parameter, index in self._frozen:
            assert parameter.grad is not None
            parameter.grad[index] = 0
        if self._config.ttt_grad_clip:
            nn.utils.clip_grad_norm_(self._parameters, self._config.ttt_grad_clip)
        self._optimizer.step()


def rate(config: ScoreConfig, chunk: int, chunks: int) -> float:
    """The learning rate of a chunk: from `ttt_lr` at the first down a half cosine to 0 at the last, or constant."""
    if config.ttt_schedule == "constant":
        return config.ttt_lr
    return config.ttt_lr * 0.5 * (1 + math.cos(math.pi * chunk / max(chunks - 1, 1)))


@contextmanager
def restoring(model: nn.Module) -> Iterator[None]:
    """Give the model back the exact parameters and buffers that it had before the block."""
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
    copies = [tensor.clone() for tensor in tensors]
    try:
        yield
    finally:
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)


def _slices_of_blocks(claimed: list[tuple[Row, nn.Parameter]], blocks: int) -> list[tuple[nn.Parameter, int]]:
    """The slices `(parameter, index)` of the banks that belong to the first `blocks` blocks.

    Raises:
        InputError: the model has fewer blocks.
    """
    layers = max((1 + max(row.layers) for row, _ in claimed if row.layers), default=0)
    if blocks > layers:
        raise InputError(f"score.ttt_freeze_blocks is {blocks}: the model has {layers} blocks")
    return [
        (parameter, part * len(row.layers) + i)
        for row, parameter in claimed
        for part in range(len(row.parts))
        for i, layer in enumerate(row.layers)
        if layer < blocks
    ]
