"""Estimates the size of an artifact from statistics of rows, fast enough to do so during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from golf_fast.compress.integers.groups import bits_of, groups_of
from golf_fast.compress.integers.quantize import kept_as
from golf_fast.compress.integers.rounding import SMALLEST_SCALE, limit_of
from golf_fast.compress.integers.trellis import LARGEST, SQUARED_ERROR
from golf_fast.compress.stored import as_rows
from golf_fast.config import CompressConfig

HEADER_BYTES, HEADER_BYTES_OF_A_TENSOR = 400, 12
"""Approximate size of a compressed header in bytes: a constant, and an amount per tensor."""
_FINEST, _COARSEST, _STEPS = -6.0, 8.0, 16
"""Range of the table in log2(sigma / scale), and its number of entries per octave."""


def expected_bytes(
    state_dict: Mapping[str, Tensor], config: CompressConfig, groups: Mapping[str, str] | None = None
) -> int:
    """The approximate size in bytes of the artifact that `quantize` and the entropy coder would make of these weights.

    Rows are modelled as Gaussian: a row of root mean square sigma and scale s has the entropy of a Gaussian of standard
    deviation `sigma / s` rounded to integers; similar rows are modelled as Gaussian around their mean. Pruning,
    low-rank corrections, the effect of GPTQ and the column scales of the coder are ignored; each changes the size by
    about a percent. Under zstd or brotli it is a lower bound.

    Args:
        state_dict: weights under public names, on any device; only a few numbers per row leave the device.
        config: the settings of compression.
        groups: as for `quantize`.

    Raises:
        InputError: a tensor is complex, or `groups` has no group for it.
    """
    bits = 8.0 * (HEADER_BYTES + HEADER_BYTES_OF_A_TENSOR * len(state_dict))
    sigmas, scales, counts = [], [], []
    group = groups_of(state_dict, groups)
    for name, tensor in state_dict.items():
        kept = kept_as(name, tensor, group[name], config)
        if kept in (torch.float16, torch.float32):
            bits += tensor.numel() * (8 * (kept.itemsize - 1) + _high_byte_bits(_rms(tensor), kept))
        elif kept is not None:
            bits += tensor.numel() * 8 * kept.itemsize
        elif tensor.numel():
            rows = tensor.detach().reshape(as_rows(tuple(tensor.shape))).float()
            sigma = rows.square().mean(dim=1).sqrt()
            scale = _scales(rows, sigma, group[name], config)
            sigma = _without_template(rows, scale, sigma)
            sigmas.append(sigma * _shrunk(sigma / scale, config))
            scales.append(scale)
            counts.append(torch.full_like(sigma, rows.shape[1]))
    if sigmas:
        sigma, scale, count = (torch.cat(each).double().cpu() for each in (sigmas, scales, counts))
        table = _rounded_gaussian_bits()
        position = (((sigma / scale).clamp_min(2.0**-60).log2() - _FINEST) * _STEPS).clamp(0, len(table) - 1)
        bits += float((count * table[position.round().long()]).sum())
        # Scales are about log-normal over the rows, with a relative precision of 2^-mantissa_bits.
        spread = float(scale.log2().std(correction=0)) if len(scale) > 1 else 0.0
        bits += len(scale) * max(math.log2(spread * 4.13 + 1e-9) + config.scale_mantissa_bits, 0.0)
    return round(bits / 8)


def _scales(rows: Tensor, sigma: Tensor, group: str, config: CompressConfig) -> Tensor:
    bits, clip_sigma = bits_of(group, config), config.clip_of(group)
    limit = limit_of(bits)
    if group == "gate":
        return (rows.abs().amax(dim=1) / limit).clamp_min(SMALLEST_SCALE)
    if config.uses_trellis:
        # Every second integer of half the step costs as many bits as every integer of the whole step.
        fitting = rows.abs().amax(dim=1) * (2 / LARGEST)
        return torch.maximum(sigma * (clip_sigma / limit), fitting).clamp_min(2 * SMALLEST_SCALE)
    if config.quantizer != "absmax":
        return (sigma * (clip_sigma / limit)).clamp_min(SMALLEST_SCALE)
    floor = 1 / limit if (group, bits) == ("embedding", 8) else SMALLEST_SCALE
    return (rows.abs().amax(dim=1) / limit).clamp_min(floor)


def _without_template(rows: Tensor, scale: Tensor, sigma: Tensor) -> Tensor:
    """The root mean square of the residual that the entropy coder codes of each row, after the mean of similar rows.

    As in the coder: start from the row that most others are closer to than to zero, then take means of these rows.
    """
    integers = rows / scale[:, None]
    some = integers[:, :: max(rows.shape[1] // 64, 1)]
    squares = some.square().sum(dim=1)
    tries = torch.arange(min(len(rows), 64), device=rows.device) * len(rows) // min(len(rows), 64)
    near = [(2 * (some - some[row]).square().sum(dim=1) < squares).sum() for row in tries]
    template = integers[tries[torch.stack(near).argmax()]]
    own = integers.square().sum(dim=1)
    for _ in range(3):
        members = 2 * (integers - template).square().sum(dim=1) < own
        template = (integers * members[:, None]).sum(dim=0) / members.sum().clamp_min(1)
    left = (integers - template).square().mean(dim=1).sqrt() * scale
    return torch.where((members.sum() > 1) & (8 * left.square() < 7 * sigma.square()), left, sigma)


def _shrunk(sigma: Tensor, config: CompressConfig) -> Tensor | float:
    """The factor by which the rate term shrinks rows whose root mean square is `sigma` whole steps."""
    if not config.uses_trellis:
        return 1.0
    return 1 / (1 + config.trellis_rate * (SQUARED_ERROR / 4 / sigma.square().clamp_min(2.0**-60)).clamp_max(1.0))


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().float().square().mean().sqrt()) if tensor.numel() else 0.0


@lru_cache
def _rounded_gaussian_bits() -> Tensor:
    """Entropy in bits of a rounded Gaussian, for each sigma of the table."""
    sigma = 2.0 ** (torch.arange(0, (_COARSEST - _FINEST) * _STEPS + 1, dtype=torch.float64) / _STEPS + _FINEST)
    edges = torch.arange(-2048, 2049, dtype=torch.float64) - 0.5
    return _entropy(torch.special.ndtr(edges[None, :] / sigma[:, None]).diff(dim=1))


def _high_byte_bits(sigma: float, dtype: torch.dtype) -> float:
    """Entropy in bits of the high byte of a Gaussian in float16 or float32 (sign, exponent, in float16 also two bits of
    the mantissa)."""
    if sigma == 0 or not math.isfinite(sigma):
        return 0.0
    codes = torch.arange(0, 0x7D if dtype == torch.float16 else 0x80)
    integer = torch.int16 if dtype == torch.float16 else torch.int32
    edges = (codes << 8 * (dtype.itemsize - 1)).to(integer).view(dtype).double()
    positive = torch.special.ndtr(edges / sigma).diff()
    return 1 + float(_entropy(2 * positive[None])[0])


def _entropy(shares: Tensor) -> Tensor:
    return -torch.xlogy(shares, shares).sum(dim=1) / math.log(2)
