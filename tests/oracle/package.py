"""The package's side of a comparison: a model with a plain state in it, its gradients, and a measure of difference."""

from __future__ import annotations

import dataclasses

import torch
from oracle.plain_model import Plain, State
from torch import Tensor

from golf_fast.config import ModelConfig
from golf_fast.model import GPT, upstream


def build(plain: Plain, state: State) -> GPT:
    """A model of `plain`'s shape that holds `state` and computes in its dtype."""
    dtype = state["skip_weights"].dtype
    model = GPT(ModelConfig(**dataclasses.asdict(plain)), compute_dtype=dtype).to(dtype)
    upstream.load(model, state)
    return model


def public_gradients(model: GPT) -> State:
    """Gradients under public names."""
    banks = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    return upstream.split(banks, model.config)


def difference(ours: Tensor, reference: Tensor) -> float:
    """Largest error over the largest reference value; infinite for a NaN or another shape."""
    if ours.shape != reference.shape:
        return float("inf")
    if reference.numel() == 0:
        return 0.0
    error = float((ours.double() - reference.double()).abs().max() / reference.double().abs().max().clamp(min=1e-30))
    return error if error == error else float("inf")


def worst(ours: State, reference: State) -> tuple[float, str]:
    """The largest difference over all names, and where; the names must be the same."""
    assert set(ours) == set(reference)
    return max((difference(ours[name], reference[name]), name) for name in reference)


def set_public_gradients(model: GPT, gradients: State) -> None:
    """Give the model's parameters the gradients that are named publicly."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for name, view in public_gradients(model).items():
        view.copy_(gradients[name])
