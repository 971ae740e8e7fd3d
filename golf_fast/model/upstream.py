"""Between banks and the public parameter names of the published scripts, exactly and without a cast."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.model import parameters
from golf_fast.model.gpt import GPT


def split(banks: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """Tensors under the names of `GPT`'s parameters (weights, gradients, averages) as views under public names.

    Raises:
        ValueError: a tensor has no row in the table of parameters, or a row no tensor.
    """
    parameters.claim(config, banks, "public names")
    return {
        found.name: banks[found.row.name] if found.index is None else banks[found.row.name][found.index]
        for found in parameters.slices(config)
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
