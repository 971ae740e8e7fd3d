"""The model (seed.md section 3). Shapes: B rows, T positions, D model width, H hidden, L layers, V vocabulary."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from golf_fast import ops
from golf_fast.config import ModelConfig
from golf_fast.model import parameters
from golf_fast.model.embedding import bigram_rows, rms_norm, smear
from golf_fast.model.parameters import Activation, Row
from golf_fast.ops.relu2_mlp.reference import hidden


class Observer(Protocol):
    """Is shown what goes into the matrices of a model while it runs uncompiled."""

    def sees(self, activation: Activation, layer: int | None, x: torch.Tensor) -> None:
        """`x` `[B, T, columns]`, in the compute dtype, into the matrices of the block `layer` (None: of no block) that
        read `activation`."""


class GPT(nn.Module):
    """A U-Net-shaped transformer with its parameters in banks.

    Matrices of equal shape are one parameter `[n, rows, cols]`, so that Muon works on a bank in one batched call:
    `qo_bank` `[2L, D, D]` (queries of blocks 0 to L-1, then their output matrices), `kv_bank` `[2L, kv_dim, D]`
    (keys, then values), `mlp_up` `[L, H, D]`, `mlp_down` `[L, D, H]`. `golf_fast.model.upstream` maps them to the
    public names and back.

    Parameters are float32, the embedding tables `embedding_dtype`; all are cast to `compute_dtype` at use, which is
    also the dtype of the residual stream. Losses and logits are float32.

    A row (`[T]` of a batch `[B, T]`) is the unit: positions, bigrams and the smear start anew in each.

    Args:
        seed: of the initial values; None: all parameters are 0, for a model that is going to be loaded.
    """

    # Those of the table that the formulas below read.
    tok_emb: nn.Parameter
    bigram_embed: nn.Parameter
    bigram_proj: nn.Parameter
    bigram_scale: nn.Parameter
    smear_gate: nn.Parameter
    qo_bank: nn.Parameter
    kv_bank: nn.Parameter
    mlp_up: nn.Parameter
    mlp_down: nn.Parameter
    q_gain: nn.Parameter
    attn_scale: nn.Parameter
    mlp_scale: nn.Parameter
    resid_mix: nn.Parameter
    skip_weights: nn.Parameter
    backout_lambda: nn.Parameter
    lm_head: nn.Parameter

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: torch.dtype = torch.float32,
        embedding_dtype: torch.dtype = torch.float32,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        for row in parameters.table(config):
            dtype = embedding_dtype if row.role == "table" else torch.float32
            self.register_parameter(row.name, nn.Parameter(torch.zeros(row.shape, dtype=dtype)))
        self._rotary: tuple[torch.Tensor, torch.Tensor] | None = None
        self.observer: Observer | None = None
        if seed is not None:
            self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw the initial values of the table of parameters from a generator seeded with `seed`."""
        generator = torch.Generator().manual_seed(seed)
        for row, parameter in self.claimed("the initial values"):
            for i, tensor in enumerate(parameter.unbind() if row.layers else [parameter]):
                _fill(tensor, row.parts[i // max(len(row.layers), 1)].initial, generator)

    def claimed(self, reader: str) -> list[tuple[Row, nn.Parameter]]:
        """The parameters with their rows in the table, in its order, for a `reader` that must miss none of them.

        Raises:
            ValueError: a parameter has no row, or a row no parameter.
        """
        named = dict(self.named_parameters())
        return [(row, named[row.name]) for row in parameters.claim(self.config, named, reader)]

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss.

        Args:
            tokens: `[B, T]` int64.
            targets: `[B, T]` int64, the token after each.

        Returns:
            A float32 scalar, nats a token.
        """
        return self.token_losses(tokens, targets).mean()

    def token_losses(self, tokens: torch.Tensor, targets: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The loss of each position from `first` on: `[B, T - first]` float32, nats. Arguments as in `forward`."""
        x = rms_norm(self._stream(tokens, first))
        if self.observer is not None:
            self.observer.sees("head", None, x)
        return ops.softcap_cross_entropy(
            x,
            self._output_matrix(),
            targets[:, first:],
            self.config.logit_softcap,
        )

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Soft-capped logits `[B, T, V]` float32 of the token after each of `tokens` `[B, T]` int64."""
        return ops.softcap_logits(rms_norm(self._stream(tokens)), self._output_matrix(), self.config.logit_softcap)

    def _output_matrix(self) -> torch.Tensor:
        matrix = self.tok_emb if self.config.tied_embeddings else self.lm_head
        return matrix.to(self.compute_dtype)

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        dtype = self.compute_dtype
        x = F.embedding(tokens, self.tok_emb).to(dtype)
        if self.config.bigram_buckets:
            pairs = F.embedding(bigram_rows(tokens, self.config.bigram_buckets), self.bigram_embed).to(dtype)
            if self.observer is not None:
                self.observer.sees("pairs", None, pairs)
            x = x + F.linear(pairs, self.bigram_proj.to(dtype)) * self.bigram_scale.to(dtype)
        return smear(rms_norm(x), self.smear_gate.to(dtype))

    def _rotary_tables(self, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin `[length, head_dim / 2]` in the compute dtype; angles in float32, or in float64 for float64."""
        cached = self._rotary
        key = (device, self.compute_dtype)
        if cached is not None and cached[0].shape[0] >= length and (cached[0].device, cached[0].dtype) == key:
            return cached[0][:length], cached[1][:length]
        angle_dtype = torch.float64 if self.compute_dtype == torch.float64 else torch.float32
        steps = torch.arange(0, self.config.head_dim, 2, device=device, dtype=angle_dtype) / self.config.head_dim
        frequencies = self.config.rope_base**-steps
        if self.config.rope_bf16_frequencies:
            frequencies = frequencies.bfloat16().to(angle_dtype)
        angles = torch.outer(torch.arange(length, device=device, dtype=angle_dtype), frequencies)
        tables = angles.cos().to(self.compute_dtype), angles.sin().to(self.compute_dtype)
        # A tensor made in inference mode could not serve a later backward.
        if not torch.compiler.is_compiling() and not torch.is_inference_mode_enabled():
            self._rotary = tables
        return tables

    def _stream(self, tokens: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The residual stream `[B, T - first, D]` after the last block and the backout, from position `first` on."""
        c, dtype = self.config, self.compute_dtype
        cos, sin = self._rotary_tables(tokens.shape[1], tokens.device)
        # One cast and one unbind for each bank: their backward is one stack and one cast, whatever the depth.
        packed = torch.cat((self.qo_bank[: c.layers], self.kv_bank[: c.layers], self.kv_bank[c.layers :]), dim=1)
        wqkv = packed.to(dtype).unbind()
        # A scale of output channels is one of the matrix's rows: no activation is read or written for it.
        wo = (self.attn_scale[:, :, None] * self.qo_bank[c.layers :]).to(dtype).unbind()
        w_up, w_down = self.mlp_up.to(dtype).unbind(), (self.mlp_scale[:, :, None] * self.mlp_down).to(dtype).unbind()
        gains = self.q_gain.to(dtype).unbind()
        mixes, skip_weights = self._mixes().unbind(), self.skip_weights.to(dtype).unbind()

        x = x0 = self._embed(tokens)
        middle = x
        branch: torch.Tensor | None = None
        skips: list[torch.Tensor] = []
        encoder_blocks = c.layers // 2
        for i in range(c.layers):
            takes_skip = i > encoder_blocks and skips
            skip, weight = (skips.pop(), skip_weights[i - encoder_blocks]) if takes_skip else (None, None)
            if i == 0:
                # The stream is still the embedding, so both shares of the mix are shares of it.
                x = self.resid_mix[0].sum(0).to(dtype) * x0
                attention_in = rms_norm(x)
            else:
                before, x, attention_in = ops.residual_mix(x, x0, mixes[i], branch, skip, weight)
                if i < encoder_blocks:
                    skips.append(before)
            attended = self._attend(attention_in, wqkv[i], gains[i], cos, sin)
            if first and i == c.layers - 1:
                # After the last attention no position sees another.
                x, attended = x[:, first:], attended[:, first:]
            x, rstd = ops.linear_residual(attended, wo[i], x)
            if self.observer is not None:
                into_mlp = rms_norm(x)
                self.observer.sees("attention", i, attention_in)
                self.observer.sees("attended", i, attended)
                self.observer.sees("mlp", i, into_mlp)
                self.observer.sees("hidden", i, hidden(into_mlp, w_up[i]))
            # The norm is a factor of each row: the normalised tensor is never written.
            branch = ops.relu2_mlp(x, w_up[i], w_down[i], rstd)
            if c.backout and i == c.backout_block:
                x, branch = x + branch, None
                middle = x
        x = x if branch is None else x + branch
        if c.backout:
            x = x - self.backout_lambda.to(dtype) * middle[:, middle.shape[1] - x.shape[1] :]
        return x

    def _mixes(self) -> torch.Tensor:
        """`[L, 2, D]` in the compute dtype: what each block makes of the stream and of the embedding.

        The first block of the second half takes its skip from the block before it: that is the stream itself, so its
        weight is a part of the mix.
        """
        blocks, middle = self.config.layers, self.config.layers // 2
        own = self.skip_weights[:1]
        of_stream = self.resid_mix[:, 0] * (1 + F.pad(own, (0, 0, middle, blocks - middle - own.shape[0])))
        return torch.stack((of_stream, self.resid_mix[:, 1]), dim=1).to(self.compute_dtype)

    def _attend(
        self, x: torch.Tensor, wqkv: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        """Attention of a block before its output matrix: `[B, T, D]` to `[B, T, D]`."""
        qkv = F.linear(x, wqkv).view(*x.shape[:2], -1, self.config.head_dim)
        return ops.qkv_attention(qkv, gain, cos, sin).flatten(2)


def _fill(tensor: torch.Tensor, initial: parameters.Initial, generator: torch.Generator) -> None:
    if isinstance(initial, parameters.Constant):
        tensor.fill_(initial.value)
    elif isinstance(initial, parameters.Lines):
        for line, value in zip(tensor, initial.values, strict=True):
            line.fill_(value)
    elif isinstance(initial, parameters.Normal):
        tensor.copy_(torch.empty(tensor.shape).normal_(0, initial.std, generator=generator))
    else:
        drawn = torch.empty(tensor.shape)
        if min(drawn.shape) >= 64:
            nn.init.orthogonal_(drawn, generator=generator)
        else:
            bound = 1 / math.sqrt(drawn.shape[1])
            nn.init.uniform_(drawn, -bound, bound, generator=generator)
        tensor.copy_(drawn.div_(initial.divisor))
