"""Between banks and the public parameter names of the published scripts, exactly and without a cast."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.model.gpt import GPT

_BLOCK_BANKS = (
    # public name within a block, bank, first row of the bank in units of the number of layers
    ("attn.c_q.weight", "qo_bank", 0),
    ("attn.c_k.weight", "kv_bank", 0),
    ("attn.c_v.weight", "kv_bank", 1),
    ("attn.proj.weight", "qo_bank", 1),
    ("attn.q_gain", "q_gain", 0),
    ("mlp.fc.weight", "mlp_up", 0),
    ("mlp.proj.weight", "mlp_down", 0),
    ("attn_scale", "attn_scale", 0),
    ("mlp_scale", "mlp_scale", 0),
    ("resid_mix", "resid_mix", 0),
)


def public_names(config: ModelConfig) -> dict[str, tuple[str, int | None]]:
    """Public name -> (parameter of `GPT`, index in its first dimension or None for the whole), in model order."""
    names: dict[str, tuple[str, int | None]] = {"tok_emb.weight": ("tok_emb", None)}
    if config.bigram_buckets:
        names["bigram.embed.weight"] = ("bigram_embed", None)
        names["bigram.proj.weight"] = ("bigram_proj", None)
        names["bigram.scale"] = ("bigram_scale", None)
    names["smear.gate"] = ("smear_gate", None)
    names["skip_weights"] = ("skip_weights", None)
    if config.backout:
        names["backout_lambda"] = ("backout_lambda", None)
    for layer in range(config.layers):
        for name, bank, part in _BLOCK_BANKS:
            names[f"blocks.{layer}.{name}"] = (bank, part * config.layers + layer)
    if not config.tied_embeddings:
        names["lm_head.weight"] = ("lm_head", None)
    return names


def split(banks: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """Tensors under the names of `GPT`'s parameters (weights, gradients, averages) as views under public names."""
    return {
        public: banks[name] if index is None else banks[name][index]
        for public, (name, index) in public_names(config).items()
    }


def export(model: GPT) -> dict[str, torch.Tensor]:
    """Copies of the model's parameters under public names, in the dtype they have."""
    banks = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return {name: tensor.clone() for name, tensor in split(banks, model.config).items()}


@torch.no_grad()
def load(model: GPT, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Copy a state dict with public names into the model; nothing changes unless all of it fits.

    Raises:
        InputError: a name is missing or unknown, or a shape differs.
    """
    wanted = split(dict(model.named_parameters()), model.config)
    for name in wanted:
        if name not in state_dict:
            raise InputError(f"{name} is missing in the state dict: the model has it")
    for name, tensor in state_dict.items():
        if name not in wanted:
            raise InputError(f"{name} in the state dict is not a parameter of the model")
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{name} is {tuple(tensor.shape)} in the state dict: the model's is {tuple(wanted[name].shape)}"
            )
    for name, tensor in state_dict.items():
        wanted[name].copy_(tensor)
