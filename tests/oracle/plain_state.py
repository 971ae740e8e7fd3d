"""Initial and random states for the plain model: public names, shapes and initial values, no code of the package."""

from __future__ import annotations

import math

import torch
from oracle.plain_model import Plain, State, order_of
from torch import Tensor


def shapes(plain: Plain) -> dict[str, tuple[int, ...]]:
    """Every public name with its shape."""
    dim, hidden = plain.dim, int(plain.mlp_mult * plain.dim)
    kv_dim = plain.kv_heads * (dim // plain.heads)
    names: dict[str, tuple[int, ...]] = {"tok_emb.weight": (plain.vocab_size, dim)}
    if plain.bigram_buckets:
        names["bigram.embed.weight"] = (plain.bigram_buckets, plain.bigram_dim)
        names["bigram.proj.weight"] = (dim, plain.bigram_dim)
        names["bigram.scale"] = ()
    if plain.smear == "after_norm":
        names["smear.gate"] = (dim,)
    elif plain.smear == "before_norm":
        names["smear_gate.weight"] = (1, plain.smear_window)
        names["smear_lambda"] = (1,)
    skips = len(order_of(plain)) // 2
    names["skip_weights"] = (skips, dim)
    if plain.skip_gates:
        names["skip_gates"] = (skips, dim)
    if plain.lanes_from:
        names["parallel_post_lambdas"] = (plain.layers, 2, 2)
        names["parallel_resid_lambdas"] = (plain.layers, 2)
    if plain.backout:
        names["backout_lambda"] = ()
    for index in range(plain.layers):
        block = f"blocks.{index}."
        names[block + "attn.c_q.weight"] = (dim, dim)
        names[block + "attn.c_k.weight"] = (kv_dim, dim)
        names[block + "attn.c_v.weight"] = (kv_dim, dim)
        names[block + "attn.proj.weight"] = (dim, dim)
        names[block + "attn.q_gain"] = (plain.heads,)
        if plain.attention_gate:
            names[block + "attn.attn_gate_w"] = (plain.heads, plain.attention_gate_window)
        names[block + "mlp.fc.weight"] = (hidden, dim)
        names[block + "mlp.proj.weight"] = (dim, hidden)
        names[block + "attn_scale"] = (dim,)
        names[block + "mlp_scale"] = (dim,)
        names[block + "resid_mix"] = (2, dim)
    if not plain.tied_embeddings:
        names["lm_head.weight"] = (plain.vocab_size, dim)
    return names


def orthogonal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A float32 matrix with orthonormal rows or columns, whichever are fewer."""
    rows, cols = shape
    gaussian = torch.randn(max(rows, cols), min(rows, cols), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * torch.sign(torch.diagonal(r))
    matrix: Tensor = (q if rows >= cols else q.T).float().contiguous()
    return matrix


def _initial(name: str, shape: tuple[int, ...], plain: Plain, generator: torch.Generator) -> Tensor:
    if name == "tok_emb.weight":
        return plain.embedding_init_std * torch.randn(shape, generator=generator)
    if name == "bigram.proj.weight":
        return orthogonal(shape, generator) / math.sqrt(2 * plain.layers)
    if name.endswith("resid_mix"):
        return torch.stack([torch.ones(shape[1]), torch.zeros(shape[1])])
    constants = {
        "bigram.scale": 0.05,
        "backout_lambda": plain.backout_lambda_init,
        "skip_weights": 1.0,
        "attn_scale": 1.0,
        "mlp_scale": 1.0,
        "q_gain": plain.qk_gain_init,
        "smear.gate": 0.0,
        "smear_gate.weight": 0.0,
        "smear_lambda": 0.0,
        "attn_gate_w": 0.0,
        "skip_gates": 0.0,
        "parallel_post_lambdas": 1.0,
        "parallel_resid_lambdas": 1.1,
        "bigram.embed.weight": 0.0,
        "attn.proj.weight": 0.0,
        "mlp.proj.weight": 0.0,
        "lm_head.weight": 0.0,
    }
    for ending, value in constants.items():
        if name.endswith(ending):
            return torch.full(shape, value)
    if min(shape) >= 64:
        return orthogonal(shape, generator)
    bound = 1 / math.sqrt(shape[1])  # smaller matrices are not specified; torch's default for a linear layer
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def initial_state(plain: Plain, generator: torch.Generator) -> State:
    """A float32 state with the initial values of the seed."""
    return {name: _initial(name, shape, plain, generator) for name, shape in shapes(plain).items()}


def randomized(state: State, generator: torch.Generator) -> State:
    """A copy in which everything takes part: no zero matrix, no constant vector, logits large enough to be capped."""

    def normal(tensor: Tensor, std: float) -> Tensor:
        return std * torch.randn(tensor.shape, generator=generator)

    filled = {}
    for name, tensor in state.items():
        if name in ("tok_emb.weight", "lm_head.weight"):
            filled[name] = normal(tensor, 10 / math.sqrt(tensor.shape[1]))
        elif name == "bigram.embed.weight":
            filled[name] = normal(tensor, 2.0)
        elif name == "bigram.scale":
            filled[name] = tensor + 0.4
        elif name.endswith(("attn.proj.weight", "mlp.proj.weight")):
            filled[name] = normal(tensor, 1 / math.sqrt(tensor.shape[1]))
        elif name == "smear_gate.weight":
            filled[name] = normal(tensor, 0.3)
        elif tensor.ndim == 2 and name.endswith(".weight"):
            filled[name] = tensor.clone()
        else:
            filled[name] = tensor + normal(tensor, 0.3)
    return filled


def cast(state: State, dtype: torch.dtype) -> State:
    return {name: tensor.to(dtype) for name, tensor in state.items()}
