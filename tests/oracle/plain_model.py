"""The model written out plainly: one row at a time, loops over blocks, heads and positions, no code of the package.

Every function takes the public names and shapes of a checkpoint (`blocks.3.attn.c_q.weight`, ...) and computes in the
dtype of the state it is given, float64 included. Slow on purpose: it is the definition that the package is tested
against. Shape letters: T tokens of a row, D width, H query heads, d head width, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]

EPS = 1.1920929e-07


@dataclass(frozen=True)
class Plain:
    """What a state dict does not say by itself, and what an initial state is made from."""

    vocab_size: int = 1024
    dim: int = 512
    layers: int = 10
    heads: int = 8
    kv_heads: int = 4
    mlp_mult: float = 3.0
    tied_embeddings: bool = True
    rope_base: float = 10000.0
    rope_bf16_frequencies: bool = False
    logit_softcap: float = 30.0
    qk_gain_init: float = 1.5
    embedding_init_std: float = 0.005
    bigram_buckets: int = 10240
    bigram_dim: int = 128
    backout: bool = True
    backout_lambda_init: float = 0.2
    backout_layer: int = -1
    window: tuple[int, ...] = (0,)
    negative_slope: float = 0.0
    smear: str = "after_norm"
    smear_window: int = 12
    smear_bos: int = 1
    rope_dims: int = 0
    norm_scale: bool = False
    xsa_layers: int = 0
    attention_gate: bool = False
    attention_gate_window: int = 12
    attention_gate_scale: float = 1.0
    skip_gates: bool = False
    loops: int = 0
    loop_start: int = 3
    loop_end: int = 5
    lanes_from: int = 0
    lanes_end: str = "mean"


def order_of(plain: Plain, looped: bool = True) -> list[int]:
    """Which block runs after which."""
    order = list(range(plain.layers))
    if looped and plain.loops:
        stretch = order[plain.loop_start : plain.loop_end + 1]
        order = order[: plain.loop_start] + stretch * (1 + plain.loops) + order[plain.loop_end + 1 :]
    return order


def int32(number: int) -> int:
    """What is left of a whole number in 32 bits, two's complement."""
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


def bigram_rows_of_integers(tokens: Sequence[int], buckets: int) -> list[int]:
    """Row of the bigram table for each position of one row of tokens, in Python's own integers."""
    rows = [buckets - 1]
    for previous, token in itertools.pairwise(tokens):
        mixed = int32(36313 * token) ^ int32(27191 * previous)
        rows.append(mixed % (buckets - 1))  # Python's remainder has the sign of the divisor: never negative
    return rows[: len(tokens)]


def bigram_rows(tokens_T: Tensor, buckets: int) -> Tensor:
    """The same in torch's int32, whose products wrap around by themselves."""
    ids = tokens_T.to(torch.int32)
    mixed = torch.bitwise_xor(36313 * ids[1:], 27191 * ids[:-1])
    first = torch.tensor([buckets - 1], dtype=torch.int32)
    return torch.cat([first, torch.remainder(mixed, buckets - 1)]).long()


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean of squares + eps) over the last dimension: in float32 or better, rounded to x's dtype."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide / torch.sqrt((wide * wide).mean(dim=-1, keepdim=True) + EPS)).to(x.dtype)


def smear(x_TD: Tensor, gate_D: Tensor) -> Tensor:
    g = torch.sigmoid(gate_D)
    rows = []
    previous = torch.zeros_like(x_TD[0])
    for x in x_TD:
        rows.append((1 - g) * x + g * previous)
        previous = x
    return torch.stack(rows)


def smear_before_norm(state: State, x_TD: Tensor, tokens_T: Tensor, plain: Plain) -> Tensor:
    """A share of each position's predecessor, by a gate that reads the position itself; nothing enters a BOS."""
    rows = [x_TD[0]]
    for i in range(1, len(tokens_T)):
        opening = torch.sigmoid((state["smear_gate.weight"][0] * x_TD[i][: plain.smear_window]).sum())
        added = state["smear_lambda"][0] * opening * x_TD[i - 1]
        rows.append(x_TD[i] if int(tokens_T[i]) == plain.smear_bos else x_TD[i] + added)
    return torch.stack(rows)


def bigram(state: State, tokens_T: Tensor) -> Tensor:
    table = state["bigram.embed.weight"]
    rows = table[bigram_rows(tokens_T, table.shape[0])]
    return state["bigram.scale"] * (rows @ state["bigram.proj.weight"].T)


def embed(state: State, tokens_T: Tensor, plain: Plain) -> Tensor:
    """Ids [T] to the stream that enters the first block [T, D], which is also x0."""
    x = state["tok_emb.weight"][tokens_T]
    if "bigram.embed.weight" in state:
        x = x + bigram(state, tokens_T)
    if plain.smear == "before_norm":
        x = smear_before_norm(state, x, tokens_T, plain)
    x = rms_norm(x)
    return smear(x, state["smear.gate"]) if plain.smear == "after_norm" else x


def rotary_angles(length: int, head_dim: int, plain: Plain, dtype: torch.dtype = torch.float32) -> Tensor:
    """[T, d/2]: position times inverse frequency, in float32 or better."""
    wide = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, head_dim, 2, dtype=wide) / head_dim
    inv_freq = 1.0 / plain.rope_base**exponents
    if plain.rope_bf16_frequencies:
        inv_freq = inv_freq.float().to(torch.bfloat16).to(wide)
    return torch.arange(length, dtype=wide)[:, None] * inv_freq[None, :]


def rotate(x_Td: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (i, i + n) of one head by the n angles of their position; the dimensions behind them stay."""
    cos, sin = angles.cos().to(x_Td.dtype), angles.sin().to(x_Td.dtype)
    half = angles.shape[1]
    a, b, rest = x_Td[:, :half], x_Td[:, half : 2 * half], x_Td[:, 2 * half :]
    return torch.cat([a * cos + b * sin, -a * sin + b * cos, rest], dim=1)


def without_own_value(y: Tensor, value: Tensor) -> Tensor:
    """Exclusive self-attention, of one head at one position: what points along the position's own value is gone."""
    direction = value / torch.clamp(torch.sqrt((value * value).sum()), min=1e-12)
    return y - (y * direction).sum() * direction


def attention(state: State, block: int, x_TD: Tensor, plain: Plain) -> Tensor:
    name = f"blocks.{block}.attn."
    gain_H = state[name + "q_gain"]
    heads = gain_H.shape[0]
    length, dim = x_TD.shape
    d = dim // heads
    q, k, v = (x_TD @ state[f"{name}{part}.weight"].T for part in ("c_q", "c_k", "c_v"))
    share = heads // (k.shape[1] // d)
    angles = rotary_angles(length, plain.rope_dims or d, plain, x_TD.dtype)
    window = plain.window[block % len(plain.window)] or length
    outputs = []
    for head in range(heads):
        columns = slice(head * d, head * d + d)
        kv_columns = slice((head // share) * d, (head // share) * d + d)
        queries = rotate(rms_norm(q[:, columns]), angles) * gain_H[head]
        keys = rotate(rms_norm(k[:, kv_columns]), angles)
        values = v[:, kv_columns]
        rows = []
        for i in range(length):
            seen = slice(max(0, i + 1 - window), i + 1)
            scores = (keys[seen] @ queries[i]) / math.sqrt(d)
            y = torch.softmax(scores, dim=0) @ values[seen]
            if block >= plain.layers - plain.xsa_layers:
                y = without_own_value(y, values[i])
            if plain.attention_gate:
                read = state[name + "attn_gate_w"][head] * x_TD[i][: plain.attention_gate_window]
                y = y * torch.sigmoid(plain.attention_gate_scale * read.sum())
            rows.append(y)
        outputs.append(torch.stack(rows))
    return torch.cat(outputs, dim=1) @ state[name + "proj.weight"].T


def mlp(state: State, block: int, x_TD: Tensor, plain: Plain) -> Tensor:
    name = f"blocks.{block}.mlp."
    before = x_TD @ state[name + "fc.weight"].T
    hidden = torch.where(before > 0, before, plain.negative_slope * before)
    return (hidden * hidden) @ state[name + "proj.weight"].T


def norm_scale(block: int, plain: Plain) -> float:
    return 1 / math.sqrt(block + 1) if plain.norm_scale else 1.0


def attention_branch(state: State, index: int, x_TD: Tensor, x0_TD: Tensor, plain: Plain) -> tuple[Tensor, Tensor]:
    """The stream with the embedding mixed in, and what attention makes of it."""
    name = f"blocks.{index}."
    mix = state[name + "resid_mix"]
    x = mix[0] * x_TD + mix[1] * x0_TD
    return x, state[name + "attn_scale"] * attention(state, index, norm_scale(index, plain) * rms_norm(x), plain)


def mlp_branch(state: State, index: int, x_TD: Tensor, plain: Plain) -> Tensor:
    read = norm_scale(index, plain) * rms_norm(x_TD)
    return state[f"blocks.{index}.mlp_scale"] * mlp(state, index, read, plain)


def block(state: State, index: int, x_TD: Tensor, x0_TD: Tensor, plain: Plain) -> Tensor:
    x, attended = attention_branch(state, index, x_TD, x0_TD, plain)
    x = x + attended
    return x + mlp_branch(state, index, x, plain)


def block_of_lanes(
    state: State, index: int, a_TD: Tensor, b_TD: Tensor, x0_TD: Tensor, plain: Plain
) -> tuple[Tensor, Tensor]:
    """Attention reads the first stream and the MLP the second; each goes on with learned shares of both outputs."""
    _, attended = attention_branch(state, index, a_TD, x0_TD, plain)
    from_mlp = mlp_branch(state, index, b_TD, plain)
    kept, post = state["parallel_resid_lambdas"][index], state["parallel_post_lambdas"][index]
    return (
        kept[0] * a_TD + post[0][0] * attended + post[1][0] * from_mlp,
        kept[1] * b_TD + post[0][1] * attended + post[1][1] * from_mlp,
    )


def with_skip(state: State, row: int, x_TD: Tensor, skip_TD: Tensor, plain: Plain) -> Tensor:
    skip = state["skip_weights"][row] * skip_TD
    if not plain.skip_gates:
        return x_TD + skip
    g = torch.sigmoid(state["skip_gates"][row])
    return g * x_TD + (1 - g) * skip


def count_layers(state: State) -> int:
    return sum(name.endswith(".resid_mix") for name in state)


def stream(state: State, tokens_T: Tensor, plain: Plain, looped: bool = True) -> Tensor:
    """Ids [T] to the stream [T, D] that enters the final norm: U-Net skips, loop, lanes and backout included."""
    order = order_of(plain, looped)
    middle = plain.layers // 2 if plain.backout_layer < 0 else plain.backout_layer
    x = x0 = embed(state, tokens_T, plain)
    second: Tensor | None = None
    pushed: list[Tensor] = []
    h_mid = None
    popped = 0
    for place, index in enumerate(order):
        if plain.lanes_from and index == plain.lanes_from:
            second = x
        if place >= len(order) // 2 and pushed:
            x = with_skip(state, popped, x, pushed.pop(), plain)
            popped += 1
        if second is None:
            x = block(state, index, x, x0, plain)
        else:
            x, second = block_of_lanes(state, index, x, second, x0, plain)
        if place < len(order) // 2:
            pushed.append(x)
        if index == middle:
            h_mid = x
    if second is not None:
        x = {"mean": (x + second) / 2, "mlp": second, "attention": x}[plain.lanes_end]
    if "backout_lambda" in state:
        assert h_mid is not None
        x = x - state["backout_lambda"] * h_mid
    return x


def head(state: State, x_TD: Tensor, plain: Plain) -> Tensor:
    """Logits [T, V], in float32 or better."""
    matrix = state.get("lm_head.weight", state["tok_emb.weight"])
    raw = rms_norm(x_TD) @ matrix.T
    wide = raw if raw.dtype == torch.float64 else raw.float()
    return plain.logit_softcap * torch.tanh(wide / plain.logit_softcap)


def forward(state: State, tokens_BT: Tensor, plain: Plain, looped: bool = True) -> Tensor:
    """Logits [B, T, V]: the rows know nothing of each other. `looped`: with the loop, if there is one."""
    return torch.stack([head(state, stream(state, row, plain, looped), plain) for row in tokens_BT])


def token_losses(state: State, tokens_BT: Tensor, targets_BT: Tensor, plain: Plain, looped: bool = True) -> Tensor:
    """Cross-entropy of each token in nats [B, T]."""
    logits = forward(state, tokens_BT, plain, looped)
    right = logits.gather(2, targets_BT[:, :, None])[:, :, 0]
    return torch.logsumexp(logits, dim=2) - right


def loss(state: State, tokens_BT: Tensor, targets_BT: Tensor, plain: Plain, looped: bool = True) -> Tensor:
    return token_losses(state, tokens_BT, targets_BT, plain, looped).mean()


def gradients(state: State, compute: Callable[[State], Tensor]) -> tuple[Tensor, State]:
    """The scalar `compute(state)`, and its gradient for each name; zeros where a name does not reach it."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in state.items()}
    value = compute(leaves)
    value.backward()  # type: ignore[no-untyped-call]
    grads = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.detach() for name, leaf in leaves.items()}
    return value.detach(), grads


def count_parameters(state: State) -> int:
    return sum(tensor.numel() for tensor in state.values())
