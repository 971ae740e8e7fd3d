"""Imports models that published scripts wrote, as tensors of an artifact."""
