"""`python -m benchmarks mechanisms RUN_DIR`: what parts of compression are worth at equal bytes, on a trained model.

For each quantizer the loss is measured at some clips, one clip for all groups of tensors and nothing else; through
these points goes a parabola of log loss over log bytes. A mechanism is then measured at the same clips, and each time
its loss is compared with the curve's at its own bytes. How far the points themselves are from their curve says what is
noise. The rest is as for `python -m benchmarks quantizers`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.quantizers import opened
from golf_fast.compress import dequantize, quantize
from golf_fast.compress.artifact.container import encode
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError
from golf_fast.report import table

CLIPS = (8.0, 9.5, 11.0, 12.5, 14.0, 16.0)
SETTINGS: dict[str, Any] = {
    "mlp_bits": 6, "attention_bits": 6, "bigram_bits": 6, "embedding_bits": 7, "prune_quantile": 0.0,
    "scale_mantissa_bits": 3, "fp16_keep": (), "target_bytes": 0, "codec": "rans", "low_rank": 0,
}  # fmt: skip
MECHANISMS: dict[str, Callable[[float], dict[str, Any]]] = {
    "clips by group as published, 11.5 : 13 : 14": lambda clip: {
        "attention_clip_sigma": clip * 13 / 11.5,
        "embedding_clip_sigma": clip * 14 / 11.5,
    },
    "embedding half as coarse": lambda clip: {"embedding_clip_sigma": clip / 2},
    "rank 4 on 3 matrices, by outputs, int8": lambda clip: {"low_rank": 4},
    "rank 4 on 3 matrices, by weights, int2 and int4": lambda clip: {"low_rank": 4, "low_rank_error": "weights"},
}
"""Name -> the settings that it adds at a clip."""


def main(arguments: list[str]) -> None:
    run, hessians, before = opened("mechanisms", __doc__, arguments)

    def lost(quantizer: str, clip: float, settings: dict[str, Any]) -> tuple[int, float]:
        config: CompressConfig = dataclasses.replace(
            run.compress, **{**SETTINGS, "quantizer": quantizer, "clip_sigma": clip, **settings}
        )
        stored = quantize(run.weights, config, hessians, groups=run.groups)
        return len(encode(stored, run.model_config, **config.coding())), run.bpb(dequantize(stored)) - before

    rows = []
    for quantizer in ("gptq", "gptq_trellis"):
        plain = [lost(quantizer, clip, {}) for clip in CLIPS]
        curve = Curve(plain)
        found = {"one clip": plain}
        found |= {name: [lost(quantizer, clip, at(clip)) for clip in CLIPS] for name, at in MECHANISMS.items()}
        for name, points in found.items():
            rows.append([quantizer, name, *curve.compared(points)])
            measured = {"quantizer": quantizer, "way": name, "points": points, "bpb_before": before}
            results.append({"op": "mechanisms", "run": run.name, **measured, **run.environment})
    print(table(["quantizer", "mechanism", "bytes", "bits per byte lost", "against one clip", "spread"], rows))


class Curve:
    """The loss of one mechanism by its bytes."""

    def __init__(self, points: list[tuple[int, float]]) -> None:
        """Fit it to (bytes, loss) of at least three sizes.

        Raises:
            InputError: something was lost nowhere.
        """
        if min(loss for _, loss in points) <= 0:
            raise InputError("quantizing costs this model nothing at some clip: train one for longer")
        self.parabola = np.polyfit(*np.log(np.array(points).T), 2)

    def at(self, size: int) -> float:
        """Loss at a number of bytes."""
        return math.exp(np.polyval(self.parabola, math.log(size)))

    def compared(self, points: list[tuple[int, float]]) -> list[str]:
        """Cells: the range of bytes, that of losses, the mean difference to the curve, and its standard deviation."""
        sizes, losses = zip(*points, strict=True)
        off = np.array([loss - self.at(size) for size, loss in points])
        ranges = f"{max(sizes):,} to {min(sizes):,}", f"{min(losses):.5f} to {max(losses):.5f}"
        return [*ranges, f"{off.mean():+.5f}", f"{off.std(ddof=1):.5f}"]
