"""A trained model and a prompt to text."""

from golf_fast.sample.generate import Sampling, generate

__all__ = ["Sampling", "generate"]
