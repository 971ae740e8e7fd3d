"""Block, and the plan of a pass: the order in which blocks run, and what flows past neighbours (docs/seed.md).

Shapes: B rows, T positions, D model width, H hidden, L layers.
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
from golf_fast.model.embedding import rms_norm
from golf_fast.ops.qkv_attention.reference import split
from golf_fast.ops.relu2_mlp.reference import hidden

if TYPE_CHECKING:
    from golf_fast.model.adapters import SlotAdapters

Weights = Mapping[str, torch.Tensor]
"""The parameters of a model by the names of their rows in the table."""
Rotary = tuple[torch.Tensor, torch.Tensor]
"""cos and sin, `[T, head_dim / 2]`."""


@dataclass(frozen=True)
class Slot:
    """A place in a plan: one run of a layer.

    Attributes:
        layer: whose weights run here.
        skip_from: the earlier slot whose output is added to the stream first; None: no one's.
        skip_row: of `skip_weights`, the weight of that output.
    """

    layer: int
    skip_from: int | None = None
    skip_row: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a pass through the blocks does.

    Attributes:
        slots: in the order in which they run. The first takes no skip.
        backout_from: the slot a share of whose output is subtracted at the end; None: no one's.
    """

    slots: tuple[Slot, ...]
    backout_from: int | None = None

    def __post_init__(self) -> None:
        taken = [slot.skip_from for slot in self.slots if slot.skip_from is not None]
        assert len(set(taken)) == len(taken), f"an output is taken twice: {taken}"
        for i, slot in enumerate(self.slots):
            assert (slot.skip_from is None) == (slot.skip_row is None), slot
            assert slot.skip_from is None or 0 <= slot.skip_from < i, f"slot {i} takes what comes later: {slot}"
            assert self.added(i) is None or i - 1 not in self.kept, f"slot {i} hides the output of the one before it"

    def starts(self, windows: Sequence[int | None], first: int) -> list[int]:
        """The position from which on each slot's input is needed for outputs of the last slot from `first` on.

        Args:
            windows: of the slots; None: attention sees all positions before.
        """
        starts = []
        for window in reversed(windows):
            first = 0 if window is None else max(0, first - window + 1)
            starts.append(first)
        return starts[::-1]

    def added(self, i: int) -> int | None:
        """The slot whose output slot `i` adds to the stream; None too for the one before it: that is the stream."""
        source = self.slots[i].skip_from
        return None if source == i - 1 else source

    @property
    def kept(self) -> set[int]:
        """The slots whose outputs are kept for a later one."""
        added = (self.added(i) for i in range(len(self.slots)))
        return {source for source in added if source is not None}


def u_net(config: ModelConfig) -> Plan:
    """Each layer once; those of the second half take the outputs of the first half, the last one's first."""
    half = config.layers // 2
    down = [Slot(layer) for layer in range(half)]
    across = [Slot(half + j, half - 1 - j, j) for j in range(half)]
    rest = [Slot(layer) for layer in range(2 * half, config.layers)]
    return Plan((*down, *across, *rest), config.backout_block if config.backout else None)


@dataclass(frozen=True)
class Block:
    """What a slot of a plan computes with: slices of the banks, in the compute dtype.

    Attributes:
        head_dim: width of a head.
        window: positions that attention sees, each position's own included; None: all before it.
        shares: `[2, D]`, of the stream and of the embedding in what the block adds to; of a first block `[D]`, their
            sum, as its stream is the embedding.
        skip_weight: `[D]`, of the skip; None: it takes none, or it takes the stream itself and `shares` say so.
        wqkv: `[(heads + 2 * kv_heads) * head_dim, D]`.
        gain: `[heads]`.
        wo: `[D, D]`, times `attn_scale`.
        w_up: `[H, D]`.
        w_down: `[D, H]`, times `mlp_scale`.
        attn_scale: `[D]`, what an adapter of the attention's output is multiplied with.
        mlp_scale: `[D]`, likewise of the MLP's output.
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

    def begin(self, x0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a first block, what it adds to and what its attention reads, each `[B, T, D]` as the embedding `x0`."""
        x = self.shares * x0
        return x, rms_norm(x)

    def mix(
        self, x: torch.Tensor, x0: torch.Tensor, branch: torch.Tensor | None, skip: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The stream that comes in, what the block adds to, and what its attention reads, each `[B, T, D]`.

        Args:
            x: `[B, T, D]`, what the block before added its MLP's output to.
            x0: the embedding, as `x`.
            branch: that output, as `x`; None: `x` has it already.
            skip: what `skip_weight` weighs, as `x`.
        """
        return ops.residual_mix(x, x0, self.shares, branch, skip, self.skip_weight)

    def project(self, x: torch.Tensor, own: SlotAdapters | None = None) -> torch.Tensor:
        """Queries, keys and values side by side, `[B, T, heads + 2 * kv_heads, head_dim]`, of `[B, T, D]`."""
        qkv = F.linear(x, self.wqkv)
        if own is not None:
            q, kv = len(self.gain) * self.head_dim, (qkv.shape[-1] - len(self.gain) * self.head_dim) // 2
            parts = zip("qkv", torch.split(qkv, [q, kv, kv], dim=-1), strict=True)
            qkv = torch.cat([own.add(part, x, name) for name, part in parts], dim=-1)
        return qkv.view(*x.shape[:2], -1, self.head_dim)

    def attention(self, qkv: torch.Tensor, rotary: Rotary, documents: torch.Tensor | None = None) -> torch.Tensor:
        """What the queries find, `[B, T, heads, head_dim]`; `documents` as in `GPT.forward`."""
        return ops.qkv_attention(qkv, self.gain, *rotary, self.window, cu_seqlens=documents)

    def attend(
        self,
        x: torch.Tensor,
        rotary: Rotary,
        documents: torch.Tensor | None = None,
        own: SlotAdapters | None = None,
        first: int = 0,
        past: Past | None = None,
    ) -> torch.Tensor:
        """What the output matrix reads from position `first` on, `[B, T - first, D]`.

        Args:
            x: `[B, T, D]`, what attention reads.
            rotary: of its positions.
            documents: as in `GPT.forward`.
            own: as in `output`.
            first: no query before it is computed.
            past: keys and values of the positions before `x`, which those of `x` join.
        """
        if not first and past is None:
            return self.attention(self.project(x, own), rotary, documents).flatten(2)
        q, k, v = self.queries_keys_values(x, own, first)
        q, k = ops.qk_norm_rope(q, k, self.gain, *rotary)
        if past is not None:
            k, v = past.extend(k, v)
        bound = self.gain.detach().abs().max().float() * self.head_dim**0.5
        return ops.window_attention(q, k, v, self.window, cu_seqlens=documents, logit_bound=bound).flatten(2)

    def queries_keys_values(
        self, x: torch.Tensor, own: SlotAdapters | None, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `project`, apart; queries `[B, T - first, heads, head_dim]` are of the positions from `first` on only."""
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
        """`x` `[B, T, D]` plus what attention found, and the factor `[B, T]` of the norm of that, float32.

        Args:
            own: the adapters of the slot that the block runs in; None: none.
            into_attention: what attention read, as `x`, for them.
        """
        if own is not None and into_attention is not None:
            x = own.add(x, into_attention, "o", self.attn_scale)
        return ops.linear_residual(attended, self.wo, x)

    def mlp(self, x: torch.Tensor, rstd: torch.Tensor, own: SlotAdapters | None = None) -> torch.Tensor:
        """What the block adds to `x` `[B, T, D]` at its end, likewise; `rstd` is from `output`, `own` as there.

        The norm is a factor of each row: the normalised tensor is never written.
        """
        branch = ops.relu2_mlp(x, self.w_up, self.w_down, rstd)
        return branch if own is None else own.add(branch, rms_norm(x), "mlp", self.mlp_scale)

    def hidden(self, normed: torch.Tensor) -> torch.Tensor:
        """The MLP's hidden units `[B, T, H]` of its normalised input `[B, T, D]`."""
        return hidden(normed, self.w_up)


class Pass(NamedTuple):
    """The weights of a pass: a block for each slot of its plan, and the share of the backout (scalar, or None)."""

    blocks: list[Block]
    backout: torch.Tensor | None


def views(weights: Weights, plan: Plan, config: ModelConfig, dtype: torch.dtype) -> Pass:
    """The weights of a pass along `plan`, cast to `dtype`.

    There is one cast and one unbind for each bank: their backward is one stack and one cast, whatever the depth.
    """
    layers = config.layers
    qo, kv = weights["qo_bank"], weights["kv_bank"]
    wqkv = torch.cat((qo[:layers], kv[:layers], kv[layers:]), dim=1).to(dtype).unbind()
    # A scale of output channels is one of the matrix's rows: no activation is read or written for it.
    wo = (weights["attn_scale"][:, :, None] * qo[layers:]).to(dtype).unbind()
    w_up = weights["mlp_up"].to(dtype).unbind()
    w_down = (weights["mlp_scale"][:, :, None] * weights["mlp_down"]).to(dtype).unbind()
    gains = weights["q_gain"].to(dtype).unbind()
    attn_scales, mlp_scales = weights["attn_scale"].to(dtype).unbind(), weights["mlp_scale"].to(dtype).unbind()
    shares, skip_weights = _shares(weights, plan, dtype), weights["skip_weights"].to(dtype).unbind()
    blocks = [
        Block(
            head_dim=config.head_dim,
            window=config.windows[slot.layer],
            shares=shares[i],
            skip_weight=None if slot.skip_row is None or plan.added(i) is None else skip_weights[slot.skip_row],
            wqkv=wqkv[slot.layer],
            gain=gains[slot.layer],
            wo=wo[slot.layer],
            w_up=w_up[slot.layer],
            w_down=w_down[slot.layer],
            attn_scale=attn_scales[slot.layer],
            mlp_scale=mlp_scales[slot.layer],
        )
        for i, slot in enumerate(plan.slots)
    ]
    return Pass(blocks, None if plan.backout_from is None else weights["backout_lambda"].to(dtype))


def _shares(weights: Weights, plan: Plan, dtype: torch.dtype) -> list[torch.Tensor]:
    """What each slot makes of the stream and of the embedding: `[2, D]`, of the first slot `[D]`.

    A slot that takes its skip from the slot before it takes the stream itself, so the weight is a part of the share.
    """
    layers = [slot.layer for slot in plan.slots]
    mix = weights["resid_mix"]
    first = mix[layers[0]]
    if layers != list(range(mix.shape[0])):
        mix = torch.stack([mix.unbind()[layer] for layer in layers])
    of_stream = mix[:, 0]
    for i, slot in enumerate(plan.slots):
        if slot.skip_row is not None and plan.added(i) is None:
            own = weights["skip_weights"][slot.skip_row : slot.skip_row + 1]
            of_stream = of_stream * (1 + F.pad(own, (0, 0, i, len(layers) - i - 1)))
    others = torch.stack((of_stream, mix[:, 1]), dim=1).to(dtype).unbind()
    return [first.sum(0).to(dtype), *others[1:]]


def rotary_tables(length: int, config: ModelConfig, dtype: torch.dtype, device: torch.device, start: int = 0) -> Rotary:
    """cos and sin `[length, head_dim / 2]` in `dtype`, of the positions from `start` on.

    Angles are in float32, for float64 and far from 0 in float64: at position 10^6 float32 would leave an angle wrong
    by 0.03.

    They are made in every pass, in half a millisecond for 2,048 positions on a CPU. Kept ones would be a state of the
    model that its compiled functions were made for, and an uncompiled call that fills it would have them made again.
    """
    angle_dtype = torch.float64 if start or dtype == torch.float64 else torch.float32
    steps = torch.arange(0, config.head_dim, 2, device=device, dtype=angle_dtype) / config.head_dim
    frequencies = config.rope_base**-steps
    if config.rope_bf16_frequencies:
        frequencies = frequencies.bfloat16().to(angle_dtype)
    angles = torch.outer(torch.arange(start, start + length, device=device, dtype=angle_dtype), frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)
