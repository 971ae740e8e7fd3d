"""Training of all weights during a scoring pass, on rows that the ledger handed out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from golf_fast.config import Compile, ScoreConfig, compiles
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.model.compilation import compiled
from golf_fast.model.parameters import Row
from golf_fast.score.rows import TrainingRows

_MICRO_BATCH_TOKENS = {"cpu": 4096}
"""Tokens per rank in one forward and backward pass, by device type; larger shares of a step are accumulated."""
_MICRO_BATCH_TOKENS_ELSEWHERE = 65536

Spans = list[tuple[int, int]]
"""For each rank, its range of rows `(first, stop)` of a training step."""


@dataclass(frozen=True)
class Descent:
    """The settings with which weights are trained.

    Attributes:
        batch_rows: rows of a step, over all ranks or per rank, depending on the protocol.
        grad_clip: limit of the L2 norm over all gradients; 0: none.
        freeze_blocks: number of blocks, from the first on, that are not trained.
    """

    optimizer: Literal["sgd", "adamw"]
    lr: float
    momentum: float
    batch_rows: int
    grad_clip: float
    freeze_blocks: int
    compile: Compile

    @classmethod
    def of(cls, config: ScoreConfig) -> Descent:
        """The settings of the chunked and the published protocol, which are fields of `ScoreConfig` itself."""
        return cls(
            config.ttt_optimizer,
            config.ttt_lr,
            config.ttt_momentum,
            config.ttt_batch_rows,
            config.ttt_grad_clip,
            config.ttt_freeze_blocks,
            config.compile,
        )


class WeightTrainer:
    """The optimizer of the weights in one scoring pass, which keeps its momentum for the whole pass."""

    def __init__(self, model: GPT, descent: Descent, ranks: Ranks, compiled_rows: int = 0) -> None:
        """Train all of `model` except its frozen blocks.

        Args:
            compiled_rows: number of rows of the calls that are compiled, if `descent` asks for compilation; calls with
                other numbers of rows are not. 0: all calls are compiled. Each number of rows takes a graph of its own.

        Raises:
            InputError: the model has fewer blocks than are to be frozen.
            ValueError: a parameter of the model has no row in the table of parameters, or a row has no parameter.
        """
        self._descent = descent
        self._separate = model.config.separate_documents
        self._ranks = ranks
        claimed = model.claimed("test-time training")
        self._parameters = [parameter for _, parameter in claimed]
        self._frozen = _slices_of_blocks(claimed, descent.freeze_blocks)
        self._plain: Callable[..., Tensor] = model
        self._compiled_rows = compiled_rows
        self._loss: Callable[..., Tensor] = model
        if compiles(descent.compile, ranks.device.type):
            self._loss = compiled(model, fullgraph=True)
        self._optimizer: torch.optim.Optimizer
        if descent.optimizer == "sgd":
            self._optimizer = torch.optim.SGD(self._parameters, lr=descent.lr, momentum=descent.momentum)
        else:
            self._optimizer = torch.optim.AdamW(
                self._parameters, lr=descent.lr, betas=(descent.momentum, 0.95), weight_decay=0.0, fused=True
            )

    def train(self, rows: TrainingRows, lr: float, epochs: int) -> None:
        """Train for some epochs at one learning rate, with steps of `batch_rows` rows over all ranks."""
        batch = self._descent.batch_rows
        steps = [self._shares(first, min(first + batch, rows.count)) for first in range(0, rows.count, batch)]
        self._train(rows, steps, lr, epochs)

    def train_each_share(self, rows: TrainingRows, lr: float, epochs: int) -> None:
        """As `train`, but each rank takes a contiguous share of the rows, with `batch_rows` of it per step."""
        batch = self._descent.batch_rows
        shares = self._shares(0, rows.count)
        longest = max(stop - first for first, stop in shares)
        steps = [
            [(min(first + done, stop), min(first + done + batch, stop)) for first, stop in shares]
            for done in range(0, longest, batch)
        ]
        self._train(rows, steps, lr, epochs)

    def _shares(self, first: int, stop: int) -> Spans:
        size = self._ranks.world_size
        return [Ranks(rank, size, self._ranks.device).share(first, stop) for rank in range(size)]

    def _train(self, rows: TrainingRows, steps: list[Spans], lr: float, epochs: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        with torch.enable_grad():
            for _ in range(epochs):
                for spans in steps:
                    self._step(rows, spans)
        self._optimizer.zero_grad()

    def _step(self, rows: TrainingRows, spans: Spans) -> None:
        """One update on the gradient of the mean loss over the rows of all ranks."""
        self._optimizer.zero_grad()
        mean_loss = self._loss if self._compiled_rows in (0, rows.count) else self._plain
        total = sum(stop - first for first, stop in spans)
        first, stop = spans[self._ranks.rank]
        limit = _MICRO_BATCH_TOKENS.get(self._ranks.device.type, _MICRO_BATCH_TOKENS_ELSEWHERE)
        size = max(1, limit // rows.window)
        # Compiled, each number of rows is a graph. A pass has three at most: `size`, and what it leaves of a whole step
        # and of the last, for all chunks that are trained on are equally long. All come again in every epoch.
        for begin in range(first, stop, size):
            end = min(begin + size, stop)
            batch = rows.batch(begin, end)
            loss = mean_loss(*(batch.with_documents(rows.window) if self._separate else batch))
            # The mean over ranks divides by their number, so each row weighs 1 / total however the rows are shared.
            (loss * ((end - begin) * self._ranks.world_size / total)).backward()  # type: ignore[no-untyped-call]
        for parameter in self._parameters:
            if parameter.grad is None:  # a rank without a row in this step
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        self._ranks.all_mean_(gradients)
        for parameter, index in self._frozen:
            assert parameter.grad is not None
            parameter.grad[index] = 0
        if self._descent.grad_clip:
            nn.utils.clip_grad_norm_(self._parameters, self._descent.grad_clip)
        self._optimizer.step()


def rate(lr: float, schedule: Literal["cosine", "constant"], chunk: int, chunks: int) -> float:
    """The learning rate of a chunk: a half cosine from `lr` at the first to 0 at the last, or constant."""
    if schedule == "constant":
        return lr
    return lr * 0.5 * (1 + math.cos(math.pi * chunk / max(chunks - 1, 1)))


@contextmanager
def restoring(model: nn.Module) -> Iterator[None]:
    """Restore the exact parameters and buffers of the model after the block."""
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
