"""Weights to the artifact, and back.

    prune -> quantize -> write_artifact -> read_artifact -> dequantize

`fit` is a `quantize` that fills a byte target.
All of it works on state dicts under their public names, never on the model's banks.
"""

from golf_fast.compress.container import Artifact, read_artifact, write_artifact
from golf_fast.compress.fit import Fitted, fit
from golf_fast.compress.prune import prune
from golf_fast.compress.quantize import quantize
from golf_fast.compress.stored import Int8, Packed, Raw, Stored, dequantize

__all__ = [
    "Artifact",
    "Fitted",
    "Int8",
    "Packed",
    "Raw",
    "Stored",
    "dequantize",
    "fit",
    "prune",
    "quantize",
    "read_artifact",
    "write_artifact",
]
