"""Converts between the banks of `GPT` and the public parameter names of the published scripts, exactly and without a
cast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.model import parameters
from golf_fast.model.gpt import GPT

PUBLISHED_BANKS = {"qo_bank": "qo_bank", "kv_bank": "kv_bank", "mlp_up_bank": "mlp_up", "mlp_down_bank": "mlp_down"}
"""Names that published scripts with banks give to theirs -> rows of the table with the same slices in the same
order."""


def unbanked(state_dict: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """A state dict in which published banks, if there are any, are split into their matrices (views, under the public
    name of each).

    Raises:
        InputError: a bank does not hold one matrix for each block and part.
    """
    slices = parameters.slices(config)
    public: dict[str, torch.Tensor] = {}
    for name, tensor in state_dict.items():
        own = {found.name: found.index for found in slices if found.row.name == PUBLISHED_BANKS.get(name)}
        if own and tensor.shape[:1] != (len(own),):
            raise InputError(f"{name} is {tuple(tensor.shape)} in the state dict: the model has {len(own)} matrices")
        public |= {matrix: tensor[index] for matrix, index in own.items()} if own else {name: tensor}
    return public


def split(banks: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """Views under public names of tensors that are named like the parameters of `GPT` (weights, gradients, averages).

    Raises:
        ValueError: a tensor has no row in the table of parameters, or a row has no tensor.
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


def check(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a model of this configuration has exactly the parameters with these public names and shapes.

    No parameter is allocated.

    Raises:
        InputError: a name is missing or unknown, or a shape differs.
    """
    wanted = {
        found.name: found.row.shape if found.index is None else found.row.shape[1:]
        for found in parameters.slices(config)
    }
    for name in wanted:
        if name not in shapes:
            raise InputError(f"{name} is missing in the state dict: the model has it")
    for name, shape in shapes.items():
        if name not in wanted:
            raise InputError(f"{name} in the state dict is not a parameter of the model")
        if tuple(shape) != wanted[name]:
            raise InputError(f"{name} is {tuple(shape)} in the state dict: the model's is {wanted[name]}")


def load(model: GPT, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Copy a state dict with public names, in banks or not, into the model. If it does not fit, nothing is changed.

    Raises:
        InputError: a name is missing or unknown, or a shape differs.
    """
    wanted = split(dict(model.named_parameters()), model.config)
    state_dict = unbanked(state_dict, model.config)
    check(model.config, {name: tuple(tensor.shape) for name, tensor in state_dict.items()})
    _copy(wanted, state_dict.items())


def fill(model: GPT, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Copy tensors into the parameters with these public names one at a time, so that an iterator need not hold all.

    Args:
        tensors: names and tensors that `check` has accepted.
    """
    _copy(split(dict(model.named_parameters()), model.config), tensors)


@torch.no_grad()
def _copy(wanted: Mapping[str, torch.Tensor], tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    for name, tensor in tensors:
        wanted[name].copy_(tensor)
