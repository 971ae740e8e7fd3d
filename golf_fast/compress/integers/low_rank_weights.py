"""The low-rank correction as published (#1855): computed from the weights only, with factors of few bits."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from golf_fast.compress.integers.rounding import SMALLEST_SCALE
from golf_fast.compress.stored import LEFT_SUFFIX, RIGHT_SUFFIX, Quantized, Stored, restore
from golf_fast.config import CompressConfig

LEFT_BITS, RIGHT_BITS = 2, 4


def correct_weights(
    weights: Mapping[str, torch.Tensor], stored: Mapping[str, Stored], config: CompressConfig
) -> dict[str, Stored]:
    """The factors of low-rank corrections, under the names that `dequantize` expects.

    The `config.low_rank_tensors` matrices with the largest sum of squared errors get a correction each: the first
    `config.low_rank` components of the singular value decomposition U S V of the error. U S is rounded to -2..1 with
    one scale, V to -8..7 with a scale for each `config.low_rank_group` neighbours of a row (fewer if the row is not a
    multiple). The sign of a pair of vectors is arbitrary: it is chosen so that the largest magnitude on the left is
    negative, where the range is wider.

    Args:
        weights: the float32 matrices that were quantized, by name.
        stored: the quantized matrices by name.
        config: the settings of compression.
    """
    errors = {
        name: matrix.cpu().double() - restore(stored[name], torch.float64)
        for name, matrix in weights.items()
        if matrix.ndim == 2
    }
    sizes = {name: float(error.square().sum()) for name, error in errors.items()}
    worst = sorted(sizes, key=lambda name: (-sizes[name], name))[: config.low_rank_tensors]
    factors: dict[str, Stored] = {}
    for name in sorted(worst):
        u, s, right = torch.linalg.svd(errors[name], full_matrices=False)
        rank = min(config.low_rank, len(s))
        left, right = (u * s).T[:rank], right[:rank]
        turned = -left.gather(1, left.abs().argmax(dim=1, keepdim=True)).sign()
        whole = _rounded((turned * left).reshape(1, -1), LEFT_BITS)
        width = math.gcd(config.low_rank_group, right.shape[1])
        factors[name + LEFT_SUFFIX] = Quantized(
            whole.values.reshape(rank, -1), whole.scales.expand(rank).contiguous(), LEFT_BITS
        )
        factors[name + RIGHT_SUFFIX] = _rounded((turned * right).reshape(-1, width), RIGHT_BITS)
    return factors


def _rounded(rows: torch.Tensor, bits: int) -> Quantized:
    """Rows rounded to integers in `[-2^(bits-1), 2^(bits-1) - 1]`; a row's largest magnitude is `2^(bits-1) - 1/2`."""
    end = 1 << bits - 1
    scales = (rows.abs().amax(dim=1) / (end - 0.5)).to(torch.float16).clamp_min(SMALLEST_SCALE)
    integers = (rows / scales.double()[:, None]).round_().clamp_(-end, end - 1)
    return Quantized(integers.to(torch.int8), scales, bits)
