"""From token ids to the residual stream: embedding, hashed bigram, smear (seed.md section 3, "Embedding")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch.nn import functional as F

from golf_fast.config import ModelConfig
from golf_fast.model.parameters import Activation
from golf_fast.ops import gated_smear, rms_norm
from golf_fast.ops.rms_norm.reference import EPS


def document_starts(documents: torch.Tensor, length: int) -> torch.Tensor:
    """Whether a document starts at each of `length` positions: bool `[length]`; `documents` as in `GPT.forward`."""
    starts = torch.zeros(length + 1, dtype=torch.bool, device=documents.device)
    return starts.index_fill(0, documents.long(), True)[:length]  # the end of the last document may be the row's


def bigram_rows(tokens: torch.Tensor, buckets: int, starts: torch.Tensor | None = None) -> torch.Tensor:
    """The row of the bigram table for each token and the one before it.

    Args:
        tokens: `[B, T]` int64.
        buckets: rows of the table; the last one stands for "no token before".
        starts: bool `[T]`, the positions besides the first that have no token before; None: there are none.

    Returns:
        `[B, T]` int64: `((36313 * t[i]) xor (27191 * t[i-1])) mod (buckets - 1)` in int32 arithmetic, and
        `buckets - 1` where there is no token before.
    """
    ids = tokens.to(torch.int32)
    hashed = torch.bitwise_xor(36313 * ids[:, 1:], 27191 * ids[:, :-1])
    rows = F.pad(hashed.remainder(buckets - 1), (1, 0), value=buckets - 1).long()
    return rows if starts is None else rows.masked_fill(starts, buckets - 1)


def row_factor(x: torch.Tensor) -> torch.Tensor:
    """The RMS-norm factor `1 / rms` of each row of `x` `[..., D]`: `[...]` float32 (float64 for float64)."""
    wide = x if x.dtype == torch.float64 else x.float()
    return torch.rsqrt(wide.square().mean(-1) + EPS)


def smear(x: torch.Tensor, gate: torch.Tensor, starts: torch.Tensor | None = None) -> torch.Tensor:
    """Interpolate each position of `x` `[B, T, D]` with the position before it, by the share `sigmoid(gate)` `[D]`.

    Args:
        starts: bool `[T]`, positions that, like the first, have no predecessor and mix with 0; None: there are no
            others.
    """
    share = torch.sigmoid(gate)
    before = F.pad(x, (0, 0, 1, -1))
    return (1 - share) * x + share * (before if starts is None else before.masked_fill(starts[:, None], 0))


class Observer(Protocol):
    """Receives the inputs of the matrices of a model while it runs uncompiled."""

    def sees(self, activation: Activation, layer: int | None, x: torch.Tensor) -> None:
        """Called with the input `x` `[B, T, columns]`, in the compute dtype, of the matrices of block `layer` (None: of
        no block) that read `activation`."""


def embed(
    tokens: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
    config: ModelConfig,
    dtype: torch.dtype,
    documents: torch.Tensor | None = None,
    observer: Observer | None = None,
) -> torch.Tensor:
    """The residual stream before the first block, `[B, T, D]` in `dtype`.

    Args:
        tokens: `[B, T]` int64.
        weights: the parameters of a model by the names of their rows in the table.
        documents: as in `GPT.forward`.
    """
    starts = None if documents is None else document_starts(documents, tokens.shape[1])
    x = F.embedding(tokens, weights["tok_emb"]).to(dtype)
    if config.bigram_buckets:
        pairs = F.embedding(bigram_rows(tokens, config.bigram_buckets, starts), weights["bigram_embed"]).to(dtype)
        if observer is not None:
            observer.sees("pairs", None, pairs)
        x = x + F.linear(pairs, weights["bigram_proj"].to(dtype)) * weights["bigram_scale"].to(dtype)
    if config.smear == "before_norm":
        begins = tokens == config.smear_bos
        begins = begins if starts is None else begins | starts
        x = gated_smear(x, weights["smear_gate"].to(dtype), weights["smear_lambda"].to(dtype), begins)
    x = rms_norm(x)
    return smear(x, weights["smear_gate"].to(dtype), starts) if config.smear == "after_norm" else x
