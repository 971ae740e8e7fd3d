"""Models whose parameters are all random, so that no formula multiplies by zero."""

from __future__ import annotations

import torch

from golf_fast.config import ModelConfig
from golf_fast.model import GPT


def model_of(config: ModelConfig, dtype: torch.dtype = torch.float64) -> GPT:
    """A model none of whose parameters is zero."""
    model = GPT(config, compute_dtype=dtype).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model
