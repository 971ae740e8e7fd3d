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


def bigram(state: State, tokens_T: Tensor) -> Tensor:
    table = state["bigram.embed.weight"]
    rows = table[bigram_rows(tokens_T, table.shape[0])]
    return state["bigram.scale"] * (rows @ state["bigram.proj.weight"].T)


def embed(state: State, tokens_T: Tensor) -> Tensor:
    """Ids [T] to the stream that enters the first block [T, D], which is also x0."""
    x = state["tok_emb.weight"][tokens_T]
    if "bigram.embed.weight" in state:
        x = x + bigram(state, tokens_T)
    return smear(rms_norm(x), state["smear.gate"])


def rotary_angles(length: int, head_dim: int, plain: Plain, dtype: torch.dtype = torch.float32) -> Tensor:
    """[T, d/2]: position times inverse frequency, in float32 or better."""
    wide = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, head_dim, 2, dtype=wide) / head_dim
    inv_freq = 1.0 / plain.rope_base**exponents
    if plain.rope_bf16_frequencies:
        inv_freq = inv_freq.float().to(torch.bfloat16).to(wide)
    return torch.arange(length, dtype=wide)[:, None] * inv_freq[None, :]


def rotate(x_Td: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (i, i + d/2) of one head by the angle of their position."""
    cos, sin = angles.cos().to(x_Td.dtype), angles.sin().to(x_Td.dtype)
    half = x_Td.shape[1] // 2
    a, b = x_Td[:, :half], x_Td[:, half:]
    return torch.cat([a * cos + b * sin, -a * sin + b * cos], dim=1)


def attention(state: State, block: int, x_TD: Tensor, plain: Plain) -> Tensor:
    name = f"blocks.{block}.attn."
    gain_H = state[name + "q_gain"]
    heads = gain_H.shape[0]
    length, dim = x_TD.shape
    d = dim // heads
    q, k, v = (x_TD @ state[f"{name}{part}.weight"].T for part in ("c_q", "c_k", "c_v"))
    share = heads // (k.shape[1] // d)
    angles = rotary_angles(length, d, plain, x_TD.dtype)
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
            rows.append(torch.softmax(scores, dim=0) @ values[seen])
        outputs.append(torch.stack(rows))
    return torch.cat(outputs, dim=1) @ state[name + "proj.weight"].T


def mlp(state: State, block: int, x_TD: Tensor) -> Tensor:
    name = f"blocks.{block}.mlp."
    hidden = torch.clamp(x_TD @ state[name + "fc.weight"].T, min=0)
    return (hidden * hidden) @ state[name + "proj.weight"].T


def block(state: State, index: int, x_TD: Tensor, x0_TD: Tensor, plain: Plain) -> Tensor:
    name = f"blocks.{index}."
    mix = state[name + "resid_mix"]
    x = mix[0] * x_TD + mix[1] * x0_TD
    x = x + state[name + "attn_scale"] * attention(state, index, rms_norm(x), plain)
    return x + state[name + "mlp_scale"] * mlp(state, index, rms_norm(x))


def count_layers(state: State) -> int:
    return sum(name.endswith(".resid_mix") for name in state)


def stream(state: State, tokens_T: Tensor, plain: Plain) -> Tensor:
    """Ids [T] to the stream [T, D] that enters the final norm: U-Net skips and backout included."""
    layers = count_layers(state)
    middle = layers // 2 if plain.backout_layer < 0 else plain.backout_layer
    x = x0 = embed(state, tokens_T)
    pushed: list[Tensor] = []
    h_mid = None
    popped = 0
    for index in range(layers):
        if index >= layers // 2 and pushed:
            x = x + state["skip_weights"][popped] * pushed.pop()
            popped += 1
        x = block(state, index, x, x0, plain)
        if index < layers // 2:
            pushed.append(x)
        if index == middle:
            h_mid = x
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


def forward(state: State, tokens_BT: Tensor, plain: Plain) -> Tensor:
    """Logits [B, T, V]: the rows know nothing of each other."""
    return torch.stack([head(state, stream(state, row, plain), plain) for row in tokens_BT])


def token_losses(state: State, tokens_BT: Tensor, targets_BT: Tensor, plain: Plain) -> Tensor:
    """Cross-entropy of each token in nats [B, T]."""
    logits = forward(state, tokens_BT, plain)
    right = logits.gather(2, targets_BT[:, :, None])[:, :, 0]
    return torch.logsumexp(logits, dim=2) - right


def loss(state: State, tokens_BT: Tensor, targets_BT: Tensor, plain: Plain) -> Tensor:
    return token_losses(state, tokens_BT, targets_BT, plain).mean()


def gradients(state: State, compute: Callable[[State], Tensor]) -> tuple[Tensor, State]:
    """The scalar `compute(state)`, and its gradient for each name; zeros where a name does not reach it."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in state.items()}
    value = compute(leaves)
    value.backward()  # type: ignore[no-untyped-call]
    grads = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.detach() for name, leaf in leaves.items()}
    return value.detach(), grads


def count_parameters(state: State) -> int:
    return sum(tensor.numel() for tensor in state.values())
