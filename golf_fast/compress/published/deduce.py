"""Deduces the configuration of a published model from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from golf_fast.compress.artifact.codecs import Malformed
from golf_fast.compress.published.layouts import Published
from golf_fast.compress.stored import Raw, Stored
from golf_fast.config import ModelConfig

NO_SMEAR = -10000.0
"""Value of a smear gate whose sigmoid is exactly 0 in float32 and bf16, so that the smear has no effect."""

_DEFAULTS = ModelConfig()


@dataclass(frozen=True)
class Unseen:
    """The settings of a published script that cannot be deduced from the tensors of its model."""

    rope_base: float = _DEFAULTS.rope_base
    """Value of ROPE_BASE in the script."""
    logit_softcap: float = _DEFAULTS.logit_softcap
    """Value of LOGIT_SOFTCAP in the script."""
    backout_layer: int = _DEFAULTS.backout_layer
    """Value of BACKOUT_LAYER in the script; it counts only where the model has a backout."""
    rope_bf16_frequencies: bool = True
    """Round the rotary frequencies to bf16. The scripts cast the whole model, these tables too, so a model that one of
    them trained needs it. Switch it off for weights that were trained with frequencies in float32."""


def with_smear(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors of a model, with a smear gate that has no effect added if there is none (published baseline)."""
    if "smear.gate" in tensors:
        return dict(tensors)
    (dim,) = _shape(tensors, "tok_emb.weight", 2)[1:]
    return {**tensors, "smear.gate": Raw(torch.full((dim,), NO_SMEAR, dtype=torch.float16))}


def notes(published: Published) -> list[str]:
    """Notes for people on an imported model that its tensors do not show."""
    said = []
    if "smear.gate" not in published.tensors:
        said.append(f"smear.gate: not in the file; written as {NO_SMEAR:g}, whose sigmoid is 0: no smear, exactly")
    for name in published.bfloat16:
        said.append(f"{name}: bfloat16 in the script; computing in bfloat16 rounds it to the same, float32 does not")
    return said


def deduce(tensors: Mapping[str, Stored], unseen: Unseen) -> ModelConfig:
    """The configuration of a model with these tensors; superfluous tensors are not detected here.

    Raises:
        Malformed: a tensor that is needed is missing or has an impossible shape.
        InputError: the deduced settings are not a valid configuration.
    """
    vocab_size, dim = _shape(tensors, "tok_emb.weight", 2)
    layers = len({found[1] for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))})
    (heads,) = _shape(tensors, "blocks.0.attn.q_gain", 1)
    if heads == 0 or dim % heads:
        raise Malformed(f"blocks.0.attn.q_gain: has {heads} heads; their number must divide the width, {dim}")
    if _shape(tensors, "blocks.0.attn.c_q.weight", 2) != (dim, dim):
        raise Malformed(f"blocks.0.attn.c_q.weight: is not {dim}x{dim}, the width of tok_emb.weight")
    kv_dim = _shape(tensors, "blocks.0.attn.c_k.weight", 2)[0]
    if kv_dim % (dim // heads):
        raise Malformed(f"blocks.0.attn.c_k.weight: has {kv_dim} rows; it must have {dim // heads} for each head")
    buckets, bigram_dim = 0, _DEFAULTS.bigram_dim
    if "bigram.embed.weight" in tensors:
        buckets, bigram_dim = _shape(tensors, "bigram.embed.weight", 2)
    return ModelConfig(
        vocab_size=vocab_size,
        dim=dim,
        layers=layers,
        heads=heads,
        kv_heads=kv_dim // (dim // heads),
        mlp_mult=_multiple(_shape(tensors, "blocks.0.mlp.fc.weight", 2)[0], dim),
        tied_embeddings="lm_head.weight" not in tensors,
        bigram_buckets=buckets,
        bigram_dim=bigram_dim,
        backout="backout_lambda" in tensors,
        rope_base=unseen.rope_base,
        logit_softcap=unseen.logit_softcap,
        backout_layer=unseen.backout_layer,
        rope_bf16_frequencies=unseen.rope_bf16_frequencies,
    )


def _multiple(hidden: int, dim: int) -> float:
    """A factor for which `int(factor * dim)` is `hidden`."""
    factor = hidden / dim
    return factor if int(factor * dim) == hidden else (hidden + 0.5) / dim


def _shape(tensors: Mapping[str, Stored], name: str, sides: int) -> tuple[int, ...]:
    if name not in tensors:
        raise Malformed(f"{name}: is missing; every model of the published scripts that can be imported has it")
    shape = tensors[name].shape
    if len(shape) != sides or 0 in shape:
        raise Malformed(f"{name}: its shape is {shape}; it must have {sides} sides, none of them 0")
    return shape
