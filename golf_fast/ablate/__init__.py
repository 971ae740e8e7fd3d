"""Ablations: runs of a recipe without each of its mechanisms, on the same seeds and the same tokens."""
