"""Quantization: weights to small integers and scales."""
