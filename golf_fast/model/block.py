"""The transformer block: what one slot of a plan computes (docs/seed.md, docs/top.md).

Shapes: B rows, T positions, D model width, H hidden width of the MLP, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from golf_fast import ops
from golf_fast.config import ModelConfig
from golf_fast.model.cache import Past
from golf_fast.model.embedding import row_factor
from golf_fast.model.plan import Plan
from golf_fast.model.streams import Lanes, streams_of
from golf_fast.ops import rms_norm
from golf_fast.ops.qkv_attention.reference import split
from golf_fast.ops.relu2_mlp.reference import hidden

if TYPE_CHECKING:
    from golf_fast.model.adapters import SlotAdapters

Weights = Mapping[str, torch.Tensor]
"""The parameters of a model, by the names of their rows in the table of parameters."""
Rotary = tuple[torch.Tensor, torch.Tensor]
"""cos and sin, `[T, rotary_dim / 2]`."""


@dataclass(frozen=True)
class Block:
    """The weights of one slot of a plan: slices of the banks, in the compute dtype.

    Attributes:
        head_dim: width of a head.
        window: number of positions that attention sees, including the query's own; None: all up to the query's.
        shares: `[2, D]`, factors of the stream and of the embedding in the block's input; `[D]`, their sum, for the
            first block, whose stream is the embedding.
        skip_weight: `[D]`, weight of the skip; None: there is no skip, or the skip is the stream itself and its weight
            is part of `shares`.
        wqkv: `[(heads + 2 * kv_heads) * head_dim, D]`, the projections of queries, keys and values.
        gain: `[heads]`, factor of the queries of each head.
        wo: `[D, D]`, the attention's output matrix, already multiplied by `attn_scale`.
        w_up: `[H, D]`, the MLP's input matrix.
        w_down: `[D, H]`, the MLP's output matrix, already multiplied by `mlp_scale`.
        attn_scale: `[D]`, factor of the output of an adapter of the attention.
        mlp_scale: `[D]`, factor of the output of an adapter of the MLP.
        negative_slope: slope of the MLP's activation below 0.
        norm_scale: factor of the normalised inputs of attention and MLP; `wqkv` and `w_up` already contain it.
        exclusive: whether the component of a head's output along the position's own value is removed.
        gate: `[heads, channels]`, maps the first channels of the attention's input, before `norm_scale`, to the logits
            of the heads' gates; None: there are no gates.
        lanes: mixing weights where attention and MLP have separate streams; None: they share one.
    """

    head_dim: int
    window: int | None
    shares: torch.Tensor
    skip_weight: torch.Tensor | None
    wqkv: torch.Tensor
    gain: torch.Tensor
    wo: torch.Tensor
    w_up: torch.Tensor
    w_down: torch.Tensor
    attn_scale: torch.Tensor
    mlp_scale: torch.Tensor
    negative_slope: float = 0.0
    norm_scale: float = 1.0
    exclusive: bool = False
    gate: torch.Tensor | None = None
    lanes: Lanes | None = None

    def begin(self, x0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The residual stream into a first block, and the input of its attention; each `[B, T, D]` as the embedding
        `x0`."""
        x = self.shares * x0
        return x, rms_norm(x)

    def mix(
        self, x: torch.Tensor, x0: torch.Tensor, branch: torch.Tensor | None, skip: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The previous block's output, the residual stream of this block, and the input of its attention; each
        `[B, T, D]`.

        Args:
            x: `[B, T, D]`, the previous block's stream before the output of its MLP is added.
            x0: `[B, T, D]`, the embedding.
            branch: `[B, T, D]`, the output of the previous block's MLP; None: `x` already contains it.
            skip: `[B, T, D]`, the output of an earlier slot, to be weighed by `skip_weight`; None: there is none.
        """
        return ops.residual_mix(x, x0, self.shares, branch, skip, self.skip_weight)

    def project(self, x: torch.Tensor, own: SlotAdapters | None = None) -> torch.Tensor:
        """Queries, keys and values side by side, `[B, T, heads + 2 * kv_heads, head_dim]`, of `x` `[B, T, D]`."""
        qkv = F.linear(x, self.wqkv)
        if own is not None:
            q, kv = len(self.gain) * self.head_dim, (qkv.shape[-1] - len(self.gain) * self.head_dim) // 2
            parts = zip("qkv", torch.split(qkv, [q, kv, kv], dim=-1), strict=True)
            qkv = torch.cat([own.add(part, x, name, self.norm_scale) for name, part in parts], dim=-1)
        return qkv.view(*x.shape[:2], -1, self.head_dim)

    def attention(
        self, qkv: torch.Tensor, rotary: Rotary, x: torch.Tensor, documents: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The output of the heads for `qkv`, `[B, T, heads, head_dim]`; `x` and `documents` as in `attend`."""
        return ops.qkv_attention(
            qkv, self.gain, *rotary, self.window, self._logits(x), cu_seqlens=documents, exclusive=self.exclusive
        )

    def attend(
        self,
        x: torch.Tensor,
        rotary: Rotary,
        documents: torch.Tensor | None = None,
        own: SlotAdapters | None = None,
        first: int = 0,
        past: Past | None = None,
    ) -> torch.Tensor:
        """The input of the output matrix, from position `first` on: `[B, T - first, D]`.

        Args:
            x: `[B, T, D]`, the input of attention.
            rotary: rotary tables of the positions of `x`.
            documents: as in `GPT.forward`.
            own: as in `output`.
            first: the first position whose query is computed.
            past: keys and values of earlier positions, to which those of `x` are appended.
        """
        if not first and past is None:
            return self.attention(self.project(x, own), rotary, x, documents).flatten(2)
        q, k, v = self.queries_keys_values(x, own, first)
        q, k = ops.qk_norm_rope(q, k, self.gain, *rotary)
        values = v[:, first:]
        if past is not None:
            k, v = past.extend(k, v)
        bound = self.gain.detach().abs().max().float() * self.head_dim**0.5
        attended = ops.window_attention(q, k, v, self.window, cu_seqlens=documents, logit_bound=bound)
        if self.exclusive or self.gate is not None:
            attended = ops.exclusive_gate(attended, values if self.exclusive else None, self._logits(x[:, first:]))
        return attended.flatten(2)

    def _logits(self, x: torch.Tensor) -> torch.Tensor | None:
        """The logits `[B, T, heads]` of the heads' gates, from the input of attention `[B, T, D]`; None: there are no
        gates."""
        return None if self.gate is None else F.linear(x[..., : self.gate.shape[1]], self.gate)

    def queries_keys_values(
        self, x: torch.Tensor, own: SlotAdapters | None, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `project`, but as separate tensors; the queries `[B, T - first, heads, head_dim]` begin at position
        `first`."""
        heads = self.gain.shape[0]
        if not first or own is not None:
            q, k, v = split(self.project(x, own), heads)
            return q[:, first:], k, v
        width = heads * self.head_dim
        q = F.linear(x[:, first:], self.wqkv[:width])
        k, v = F.linear(x, self.wqkv[width:]).view(*x.shape[:2], -1, self.head_dim).chunk(2, dim=2)
        return q.view(*q.shape[:2], heads, self.head_dim), k, v

    def output(
        self,
        attended: torch.Tensor,
        x: torch.Tensor,
        own: SlotAdapters | None = None,
        into_attention: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`x` `[B, T, D]` plus the output of attention, and the RMS-norm factor `[B, T]` float32 of that sum.

        Args:
            attended: `[B, T, D]`, as `attend` returns it.
            x: `[B, T, D]`, the residual stream of the block.
            own: the adapters of the slot in which the block runs; None: there are none.
            into_attention: `[B, T, D]`, the input of attention, which the adapters read.
        """
        if own is not None and into_attention is not None:
            x = own.add(x, into_attention, "o", self.attn_scale)
        return ops.linear_residual(attended, self.wo, x)

    def mlp(self, x: torch.Tensor, rstd: torch.Tensor, own: SlotAdapters | None = None) -> torch.Tensor:
        """The output of the MLP, `[B, T, D]`, for the sum `x` and the factor `rstd` that `output` returns; `own` as
        there.

        The norm is applied as a factor of each row: the normalised tensor is never written to memory.
        """
        branch = ops.relu2_mlp(x, self.w_up, self.w_down, rstd, self.negative_slope)
        return branch if own is None else own.add(branch, rms_norm(x), "mlp", self.mlp_scale)

    def hidden(self, normed: torch.Tensor) -> torch.Tensor:
        """The hidden units `[B, T, H]` of the MLP for its normalised input `[B, T, D]`."""
        return hidden(normed, self.w_up, negative_slope=self.negative_slope)

    def route(
        self,
        first: torch.Tensor,
        second: torch.Tensor,
        attended: torch.Tensor,
        into_attention: torch.Tensor,
        own: SlotAdapters | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The two residual streams `[B, T, D]` after a block that has `lanes`.

        Args:
            first: `[B, T, D]`, the stream of attention, as `mix` returns it.
            second: `[B, T, D]`, the stream of the MLP.
            attended: `[B, T, D]`, as `attend` returns it.
            into_attention: `[B, T, D]`, the input of attention.
            own: as in `output`.
        """
        assert self.lanes is not None
        a = F.linear(attended, self.wo)
        if own is not None:
            a = own.add(a, into_attention, "o", self.attn_scale)
        m = self.mlp(second, row_factor(second), own)
        return ops.lane_mix(first, second, a, m, *self.lanes)


class Pass(NamedTuple):
    """The weights of a forward pass: a block for each slot of its plan, and the factor of the backout (scalar, or
    None)."""

    blocks: list[Block]
    backout: torch.Tensor | None


def views(
    weights: Weights,
    plan: Plan,
    config: ModelConfig,
    dtype: torch.dtype,
    windows: Sequence[int | None] | None = None,
) -> Pass:
    """The weights of a forward pass along `plan`, cast to `dtype`.

    There is one cast and one unbind for each bank: their backward is one stack and one cast, whatever the depth.

    Args:
        windows: the attention window of each slot, in positions; None: as configured.
    """
    layers = config.layers
    qo, kv = weights["qo_bank"], weights["kv_bank"]
    into_attention = torch.cat((qo[:layers], kv[:layers], kv[layers:]), dim=1)
    into_mlp, scales = weights["mlp_up"], [weights["attn_scale"], weights["mlp_scale"]]
    gates = weights["attention_gate"] * config.attention_gate_scale if config.attention_gate else None
    # A factor of the output channels is folded into the rows of the matrix, so it costs no pass over activations.
    wo = (scales[0][:, :, None] * qo[layers:]).to(dtype).unbind()
    w_down = (scales[1][:, :, None] * weights["mlp_down"]).to(dtype).unbind()
    if config.norm_scale:  # folded into the matrices that read the scaled input, and into the scales of the adapters
        of_layer = torch.arange(1, layers + 1, device=qo.device, dtype=qo.dtype).rsqrt()
        matrices = (into_attention, into_mlp) if gates is None else (into_attention, into_mlp, gates)
        into_attention, into_mlp, *rest = (of_layer[:, None, None] * matrix for matrix in matrices)
        gates = rest[0] if rest else None
        scales = [of_layer[:, None] * scale for scale in scales]
    wqkv, w_up = into_attention.to(dtype).unbind(), into_mlp.to(dtype).unbind()
    gains = weights["q_gain"].to(dtype).unbind()
    attn_scales, mlp_scales = (scale.to(dtype).unbind() for scale in scales)
    gate = [None] * layers if gates is None else gates.to(dtype).unbind()
    streams = streams_of(weights, plan, config, dtype)
    blocks = [
        Block(
            head_dim=config.head_dim,
            window=config.windows[slot.layer] if windows is None else windows[i],
            shares=streams.shares[i],
            skip_weight=streams.skip_weights[i],
            wqkv=wqkv[slot.layer],
            gain=gains[slot.layer],
            wo=wo[slot.layer],
            w_up=w_up[slot.layer],
            w_down=w_down[slot.layer],
            attn_scale=attn_scales[slot.layer],
            mlp_scale=mlp_scales[slot.layer],
            negative_slope=config.negative_slope,
            norm_scale=config.norm_scales[slot.layer],
            exclusive=slot.layer >= layers - config.xsa_layers,
            gate=gate[slot.layer],
            lanes=streams.lanes[i],
        )
        for i, slot in enumerate(plan.slots)
    ]
    return Pass(blocks, None if plan.backout_from is None else weights["backout_lambda"].to(dtype))


def rotary_tables(length: int, config: ModelConfig, dtype: torch.dtype, device: torch.device, start: int = 0) -> Rotary:
    """cos and sin `[length, rotary_dim / 2]` in `dtype`, for the positions from `start` on.

    Angles are computed in float32; in float64 if `dtype` is float64 or `start` is not 0: at position 10^6 an angle in
    float32 would be off by 0.03.

    The tables are computed in every pass (half a millisecond for 2,048 positions on a CPU). A cached table would be
    mutable state of the model, and filling it in an uncompiled call would recompile its compiled functions.
    """
    angle_dtype = torch.float64 if start or dtype == torch.float64 else torch.float32
    steps = torch.arange(0, config.rotary_dim, 2, device=device, dtype=angle_dtype) / config.rotary_dim
    frequencies = config.rope_base**-steps
    if config.rope_bf16_frequencies:
        frequencies = frequencies.bfloat16().to(angle_dtype)
    angles = torch.outer(torch.arange(start, start + length, device=device, dtype=angle_dtype), frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)
