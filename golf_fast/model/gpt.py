"""The model (seed.md section 3). Shapes: B rows, T positions, D model width, H hidden, L layers, V vocabulary."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from golf_fast import ops
from golf_fast.config import ModelConfig
from golf_fast.model.embedding import bigram_rows, rms_norm, smear


class Observer(Protocol):
    """Is shown what goes into the matrices of a model while it runs uncompiled. Tensors are in the compute dtype."""

    def bigram(self, pairs: torch.Tensor) -> None:
        """`[B, T, bigram_dim]`, into `bigram.proj`."""

    def block(self, layer: int, attention: torch.Tensor, attended: torch.Tensor, mlp: torch.Tensor) -> None:
        """`[B, T, D]` each: into the queries, keys and values; into the output matrix; into the MLP."""

    def head(self, x: torch.Tensor) -> None:
        """`[B, T, D]`, into the output matrix of the model."""


class GPT(nn.Module):
    """A U-Net-shaped transformer with its parameters in banks.

    Matrices of equal shape are one parameter `[n, rows, cols]`, so that Muon works on a bank in one batched call:
    `qo_bank` `[2L, D, D]` (queries of blocks 0 to L-1, then their output matrices), `kv_bank` `[2L, kv_dim, D]`
    (keys, then values), `mlp_up` `[L, H, D]`, `mlp_down` `[L, D, H]`. `golf_fast.model.upstream` maps them to the
    public names and back.

    Parameters are float32, the embedding tables `embedding_dtype`; all are cast to `compute_dtype` at use, which is
    also the dtype of the residual stream. Losses and logits are float32.

    A row (`[T]` of a batch `[B, T]`) is the unit: positions, bigrams and the smear start anew in each.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: torch.dtype = torch.float32,
        embedding_dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        c = config

        def parameter(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, dtype=dtype))

        self.tok_emb = parameter(c.vocab_size, c.dim, dtype=embedding_dtype)
        if c.bigram_buckets:
            self.bigram_embed = parameter(c.bigram_buckets, c.bigram_dim, dtype=embedding_dtype)
            self.bigram_proj = parameter(c.dim, c.bigram_dim)
            self.bigram_scale = parameter()
        self.smear_gate = parameter(c.dim)
        self.qo_bank = parameter(2 * c.layers, c.dim, c.dim)
        self.kv_bank = parameter(2 * c.layers, c.kv_dim, c.dim)
        self.mlp_up = parameter(c.layers, c.hidden, c.dim)
        self.mlp_down = parameter(c.layers, c.dim, c.hidden)
        self.q_gain = parameter(c.layers, c.heads)
        self.attn_scale = parameter(c.layers, c.dim)
        self.mlp_scale = parameter(c.layers, c.dim)
        self.resid_mix = parameter(c.layers, 2, c.dim)
        self.skip_weights = parameter(c.layers // 2, c.dim)
        if c.backout:
            self.backout_lambda = parameter()
        if not c.tied_embeddings:
            self.lm_head = parameter(c.vocab_size, c.dim)
        self._rotary: tuple[torch.Tensor, torch.Tensor] | None = None
        self.observer: Observer | None = None
        self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw the initial values of seed.md section 3 from a generator seeded with `seed`."""
        c = self.config
        generator = torch.Generator().manual_seed(seed)

        def fill_matrices(bank: torch.Tensor) -> None:
            for matrix in bank:
                drawn = torch.empty(matrix.shape)
                if min(matrix.shape) >= 64:
                    nn.init.orthogonal_(drawn, generator=generator)
                else:
                    bound = 1 / math.sqrt(matrix.shape[1])
                    nn.init.uniform_(drawn, -bound, bound, generator=generator)
                matrix.copy_(drawn)

        for parameter in self.parameters():
            parameter.zero_()
        self.tok_emb.copy_(torch.empty(self.tok_emb.shape).normal_(0, c.embedding_init_std, generator=generator))
        if c.bigram_buckets:
            fill_matrices(self.bigram_proj[None])
            self.bigram_proj.div_(math.sqrt(2 * c.layers))
            self.bigram_scale.fill_(0.05)
        fill_matrices(self.qo_bank[: c.layers])
        fill_matrices(self.kv_bank)
        fill_matrices(self.mlp_up)
        self.q_gain.fill_(c.qk_gain_init)
        for ones in (self.attn_scale, self.mlp_scale, self.skip_weights, self.resid_mix[:, 0]):
            ones.fill_(1)
        if c.backout:
            self.backout_lambda.fill_(c.backout_lambda_init)

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
            self.observer.head(x)
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
                self.observer.bigram(pairs)
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
                self.observer.block(i, attention_in, attended, rms_norm(x))
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
