"""What compression learns from training tokens: the inputs of each matrix, and what a change of weights costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from golf_fast.data import Batches
from golf_fast.data.loader import TokenStream
from golf_fast.data.token_bytes import TokenBytes
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.ops.relu2_mlp.reference import hidden

Batch = tuple[torch.Tensor, torch.Tensor]
"""Tokens and targets, int64 `[rows, T]` each."""
BATCH_TOKENS = 16384
"""Tokens of a batch: the hidden activations of one layer are kept in float32 while they are summed up."""


class GramMatrices:
    """Sums of `x x^T` over the inputs x of each matrix of a model (an `Observer`), float32, by public name.

    GPTQ's Hessians (arXiv 2210.17323, section 3) but for a factor. Matrices with one input share one tensor. The rows
    of a lookup table have no input of their own: for `bigram.embed` the sum is over the rows of the matrix that its
    columns meet next, `bigram.proj`.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.sums: dict[str, torch.Tensor] = {}

    def bigram(self, pairs: torch.Tensor) -> None:
        self._add(["bigram.proj.weight"], pairs)

    def block(self, layer: int, attention: torch.Tensor, attended: torch.Tensor, mlp: torch.Tensor) -> None:
        block = f"blocks.{layer}"
        self._add([f"{block}.attn.{name}.weight" for name in ("c_q", "c_k", "c_v")], attention)
        self._add([f"{block}.attn.proj.weight"], attended)
        self._add([f"{block}.mlp.fc.weight"], mlp)
        self._add([f"{block}.mlp.proj.weight"], hidden(mlp, self.model.mlp_up[layer].to(mlp.dtype)))

    def head(self, x: torch.Tensor) -> None:
        self._add(["tok_emb.weight" if self.model.config.tied_embeddings else "lm_head.weight"], x)

    def _add(self, names: list[str], x: torch.Tensor) -> None:
        rows = x.detach().flatten(0, -2).float()
        if names[0] not in self.sums:
            self.sums |= dict.fromkeys(names, rows.new_zeros(rows.shape[1], rows.shape[1]))
        self.sums[names[0]].addmm_(rows.T, rows)


@torch.no_grad()
def gram_matrices(
    model: GPT, batches: Sequence[Batch], ranks: Ranks, check: Callable[[], object] = lambda: None
) -> dict[str, torch.Tensor]:
    """The `GramMatrices` of `model` over the batches of all ranks, on its device, the same on every rank.

    Args:
        model: with the weights that will be quantized, uncompiled.
        batches: this rank's, as many as every other's; of training tokens, never of validation tokens.
        check: called before each batch; what it raises ends the work.
    """
    assert model.observer is None
    gram = model.observer = GramMatrices(model)
    try:
        for tokens, targets in batches:
            check()
            model(tokens.to(ranks.device), targets.to(ranks.device))
    finally:
        model.observer = None
    for shared in {id(tensor): tensor for tensor in gram.sums.values()}.values():
        ranks.all_sum_(shared)
    if model.config.bigram_buckets:
        projection = model.bigram_proj.detach().float()
        gram.sums["bigram.embed.weight"] = projection.T @ projection
    return gram.sums


def next_batches(
    stream: TokenStream, position: int, tokens: int, seq_len: int, ranks: Ranks
) -> tuple[list[Batch], int]:
    """This rank's share of at least `tokens` training tokens from `position` on, and the position after all shares.

    After training these are the tokens that come next: none was trained on, unless the stream has begun again.
    """
    rows = -(-tokens // (seq_len * ranks.world_size))
    count = -(-rows // max(1, BATCH_TOKENS // seq_len))
    together = -(-rows // count)
    batch_tokens = together * seq_len * ranks.world_size
    batches = Batches(stream, ranks.rank, ranks.world_size, batch_tokens, ranks.world_size, seq_len)
    batches.restore({"position": position})
    return [batches.next() for _ in range(count)], batches.state()["position"]


def bits_per_byte(model: GPT, batches: Sequence[Batch], token_bytes: TokenBytes, device: torch.device) -> float:
    """Of the targets of `batches`, under the model as it is."""
    nats, size = 0.0, 0
    with torch.inference_mode():
        for tokens, targets in batches:
            nats += float(model.token_losses(tokens.to(device), targets.to(device)).sum(dtype=torch.float64))
            size += int(token_bytes.count(tokens.numpy(), targets.numpy()).sum())
    return nats / math.log(2) / max(size, 1)
