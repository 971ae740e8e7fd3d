"""Compression: weights to the artifact, and back.

    prune -> quantize -> write_artifact -> read_artifact -> dequantize

`Fitter` is a `quantize` that fills a byte target, `Quantizer` keeps either within the training time.
All of it works on state dicts under their public names, never on the model's banks.
"""

from golf_fast.compress.artifact.container import Artifact, read_artifact, write_artifact
from golf_fast.compress.deadline import Quantizer
from golf_fast.compress.fit_size import Fitted, Fitter
from golf_fast.compress.integers.prune import prune
from golf_fast.compress.integers.quantize import quantize
from golf_fast.compress.integers.trellis import trellis_quantize
from golf_fast.compress.stored import Quantized, Raw, Stored, dequantize

__all__ = [
    "Artifact",
    "Fitted",
    "Fitter",
    "Quantized",
    "Quantizer",
    "Raw",
    "Stored",
    "dequantize",
    "prune",
    "quantize",
    "read_artifact",
    "trellis_quantize",
    "write_artifact",
]
