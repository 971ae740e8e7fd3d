"""Weights to small integers and scales."""
