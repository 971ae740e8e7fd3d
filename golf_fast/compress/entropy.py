"""The entropy coder under its public name: `encode` codes a matrix of small integers, `decode` decodes it."""

from golf_fast.compress.artifact.rans import decode, encode

__all__ = ["decode", "encode"]
