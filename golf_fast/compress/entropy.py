"""The entropy coder under its public name: `encode` makes a blob of a matrix of small integers, `decode` reads it."""

from golf_fast.compress.artifact.rans import decode, encode

__all__ = ["decode", "encode"]
