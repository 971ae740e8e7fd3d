"""Calibration on training tokens: Gram matrices of the inputs of each matrix, and bits per byte of changed weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from golf_fast.config import ModelConfig
from golf_fast.data import Batch, Batches
from golf_fast.data.loader import TokenStream
from golf_fast.data.token_bytes import TokenBytes
from golf_fast.distributed import Ranks
from golf_fast.model import GPT, parameters
from golf_fast.model.parameters import Activation

BATCH_TOKENS = 16384
"""Tokens per batch, limited because the hidden activations of a layer are held in float32 while they are summed."""


class GramMatrices:
    """An `Observer` that sums `x x^T` over the inputs x of each matrix of a model, in float32, by public name.

    Up to a factor these are the Hessians of GPTQ (arXiv 2210.17323, section 3). Matrices with the same input share one
    tensor. A lookup table has no such input: for `bigram.embed` the sum is over the rows of `bigram.proj`, the matrix
    that its rows are multiplied with.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.names: dict[tuple[Activation, int | None], list[str]] = {}
        """Names of the matrices that read an activation, by activation and block (None: no block)."""
        for found in parameters.slices(config):
            if found.part.reads is not None:
                self.names.setdefault((found.part.reads, found.layer), []).append(found.name)
        self.sums: dict[str, torch.Tensor] = {}

    def sees(self, activation: Activation, layer: int | None, x: torch.Tensor) -> None:
        names = self.names[activation, layer]
        rows = x.detach().flatten(0, -2).float()
        if names[0] not in self.sums:
            self.sums |= dict.fromkeys(names, rows.new_zeros(rows.shape[1], rows.shape[1]))
        self.sums[names[0]].addmm_(rows.T, rows)

    def check_complete(self) -> None:
        """Raise a ValueError if the inputs of a matrix were not observed."""
        for names in self.names.values():
            if names[0] not in self.sums:
                raise ValueError(f"the calibration: the model shows nothing of what goes into {names[0]}")


@torch.no_grad()
def gram_matrices(
    model: GPT, batches: Sequence[Batch], ranks: Ranks, check: Callable[[], object] = lambda: None
) -> dict[str, torch.Tensor]:
    """The `GramMatrices` of `model` over the batches of all ranks, on its device and equal on every rank.

    Args:
        model: the uncompiled model with the weights that will be quantized.
        batches: this rank's batches of training tokens; every rank must have the same number.
        check: called before each batch; an exception that it raises is passed on.

    Raises:
        ValueError: a parameter of the model has no row in the table of parameters, a row has no parameter, or the input
            of a matrix was not observed.
    """
    assert model.observer is None
    model.claimed("the calibration")
    gram = model.observer = GramMatrices(model.config)
    try:
        for batch in batches:
            check()
            model(*batch.to(ranks.device))
    finally:
        model.observer = None
    gram.check_complete()
    for shared in {id(tensor): tensor for tensor in gram.sums.values()}.values():
        ranks.all_sum_(shared)
    if model.config.bigram_buckets:
        projection = model.get_parameter("bigram_proj").detach().float()
        gram.sums["bigram.embed.weight"] = projection.T @ projection
    return gram.sums


def next_batches(
    stream: TokenStream, position: int, tokens: int, seq_len: int, ranks: Ranks, separate: bool = False
) -> tuple[list[Batch], int]:
    """This rank's share of at least `tokens` training tokens from `position` on, and the position after all shares.

    After training these are the next tokens of the stream: none was trained on, unless the stream has wrapped around.
    `separate` is as in `Batches`.
    """
    rows = -(-tokens // (seq_len * ranks.world_size))
    count = -(-rows // max(1, BATCH_TOKENS // seq_len))
    together = -(-rows // count)
    batch_tokens = together * seq_len * ranks.world_size
    batches = Batches(stream, ranks.rank, ranks.world_size, batch_tokens, ranks.world_size, seq_len, separate=separate)
    batches.restore({"position": position})
    return [batches.next() for _ in range(count)], batches.state()["position"]


def bits_per_byte(model: GPT, batches: Sequence[Batch], token_bytes: TokenBytes, device: torch.device) -> float:
    """Bits per byte of the targets of `batches` under `model`."""
    nats, size = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            nats += float(model.token_losses(*batch.to(device)).sum(dtype=torch.float64))
            for tokens, targets in zip(batch.tokens.numpy(), batch.targets.numpy(), strict=True):
                size += int(token_bytes.along([*tokens[:1], *targets]).sum())
    return nats / math.log(2) / max(size, 1)
