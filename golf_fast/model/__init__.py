"""Tokens to loss: the one forward pass that training, scoring and adapting share."""

from golf_fast.model.gpt import GPT

__all__ = ["GPT"]
