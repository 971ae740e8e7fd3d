"""Trellis-coded quantization: integers on a grid of half the usual step, of which each state of the trellis allows
every second one, so that they cost as many bits as on the usual grid.

Marcellin and Fischer, IEEE Transactions on Communications 38(1), 1990; entropy-coded in Fischer and Wang, IEEE
Transactions on Information Theory 38(4), 1992. docs/compression.md has the theory. `native` (csrc/trellis/) and `numpy`
(`trellis_numpy`) compute the same bits; the choice is that of `golf_fast.ops.backends`, under the name `trellis`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from golf_fast.compress.integers import trellis_numpy
from golf_fast.compress.integers.rounding import coarser, sigma_scales
from golf_fast.compress.integers.trellis_numpy import Array
from golf_fast.compress.stored import as_rows
from golf_fast.ops import backends, extension

STATES = (4, 8)
SQUARED_ERROR = 0.26
"""Mean squared error of a weight under 8 states, in squared steps, if the step is well below the weights (1/3 for a
uniform grid of twice the step)."""
SMALLEST_VARIANCE = 1 / 16
BITS = 8
"""Width of the integers in bits. It suffices for all but a few rows, which get a larger step; the entropy coder makes
unused values free."""
LARGEST = 120.0
"""Greatest magnitude of a row in steps: every path fits 124, and GPTQ changes weights."""

_Matrix = TypeVar("_Matrix", Array, torch.Tensor)

backends.register(
    "trellis",
    backends.Candidate("native", "golf_fast._C has it; it runs on the CPU", extension.obstacle),
    backends.Candidate("numpy", "NumPy runs anywhere", backends.anywhere),
)


def trellis_quantize(weights: _Matrix, steps: _Matrix, states: int = 8, rate: float = 0.0) -> _Matrix:
    """Integers `q` for which `q * steps[:, None]` is nearest to the weights, each column being a path of the trellis.

    The result is the same on every machine.

    Args:
        weights: float32 [rows, cols] of NumPy or torch, on any device and of any strides.
        steps: floats [rows]: the value of the integer 1 in each row, half the step of a uniform quantizer with the same
            entropy.
        states: 4 or 8; more states give a smaller error at the same number of bits.
        rate: weight of a bit against squared error, as a share of the slope of the rate-distortion bound. 0 minimises
            the error; 1 saves the most bytes at a given error, which matters below 4 bits per weight. Bits are those of
            a Gaussian with the row's root mean square.

    Returns:
        int8 [rows, cols], an array or a tensor like `weights`. Weights beyond 127 steps are clipped.

    Raises:
        ValueError: another dtype or shape, a step that is not above 0, a number that is not finite.
    """
    if isinstance(weights, torch.Tensor):
        device = weights.device
        found = _quantize(weights.detach().cpu().numpy(), _array(steps), states, rate)
        return torch.from_numpy(found).to(device)
    return _quantize(weights, _array(steps), states, rate)


def paths(weights: torch.Tensor, steps: torch.Tensor, states: int, shrink: torch.Tensor | None) -> torch.Tensor:
    """As `trellis_quantize`, for a batch of matrices and without checks.

    Args:
        weights: float32 `[n, rows, cols]`, finite, on the CPU.
        steps: float32 `[n, rows]`, above 0, on the CPU.
        states: 4 or 8.
        shrink: float64 `[n, rows]`, 0 or more, on the CPU, as `shrink_of` returns it; None: zeros.

    Returns:
        int8 `[n, rows, cols]`.
    """
    weights, steps = weights.contiguous(), steps.contiguous()
    shrink = None if shrink is None else shrink.contiguous()
    n, rows, cols = weights.shape
    values = torch.empty(n, rows, cols, dtype=torch.int8)
    if backends.resolve("trellis", "cpu").name == "native":
        extension.C.trellis_quantize(
            weights.data_ptr(),
            steps.data_ptr(),
            0 if shrink is None else shrink.data_ptr(),
            n,
            rows,
            cols,
            states,
            values.data_ptr(),
            torch.get_num_threads(),
        )
        return values
    shrunk = np.zeros((n, rows)) if shrink is None else shrink.numpy()
    for each in range(n):
        values[each] = torch.from_numpy(
            trellis_numpy.quantize(weights[each].numpy(), steps[each].numpy(), states, shrunk[each])
        )
    return values


def path_block(
    weights: torch.Tensor, factor: torch.Tensor, steps: torch.Tensor, states: int, shrink: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The paths of a block of columns under GPTQ, one after the other, each compensating the errors of earlier ones.

    Args:
        weights: float32 `[n, width, rows]`, transposed, on the CPU; may be modified.
        factor: float32 `[n, width, width]`, the block's part of the inverse Hessian's upper Cholesky factor.
        steps, states, shrink: as for `paths`.

    Returns:
        int8 and float32 `[n, width, rows]`: the integers, and the errors divided by the diagonal of the factor.
    """
    weights, factor, steps = weights.contiguous(), factor.contiguous(), steps.contiguous()
    n, width, rows = weights.shape
    values, errors = torch.empty(n, width, rows, dtype=torch.int8), torch.empty_like(weights)
    if backends.resolve("trellis", "cpu").name == "native":
        shrink = None if shrink is None else shrink.contiguous()
        extension.C.trellis_quantize_block(
            weights.data_ptr(),
            factor.data_ptr(),
            steps.data_ptr(),
            0 if shrink is None else shrink.data_ptr(),
            n,
            width,
            rows,
            states,
            values.data_ptr(),
            errors.data_ptr(),
            torch.get_num_threads(),
        )
        return values, errors
    shrunk = np.zeros((n, rows)) if shrink is None else shrink.numpy()
    for each in range(n):
        arrays = weights[each].numpy(), factor[each].numpy(), steps[each].numpy()
        found = trellis_numpy.quantize_block(*arrays, states, shrunk[each])
        values[each], errors[each] = map(torch.from_numpy, found)
    return values, errors


def shrink_of(weights: torch.Tensor, steps: torch.Tensor, rate: float) -> torch.Tensor | None:
    """The weight of the bits of each row: a value v costs `shrink * v^2` in addition to its squared error.

    In a Gaussian row of variance V (in squared steps), an integer q takes `q^2 log2(e) / 2V` bits and a constant; a bit
    counts as `rate` times `2 ln(2)` times the squared error of a weight.

    Args:
        weights: float32 `[..., rows, cols]`.
        steps: float32 `[..., rows]`.
        rate: as for `trellis_quantize`.

    Returns:
        float64 `[..., rows]`; None if `rate` is 0.
    """
    if rate == 0:
        return None
    # Sums of integers, which do not depend on their order.
    integers = (weights.double() / steps.double()[..., None]).round_().clamp_(-1024, 1024).to(torch.int64)
    variance = integers.square_().sum(dim=-1).double() / max(weights.shape[-1], 1)
    return rate * (SQUARED_ERROR / variance.clamp_min(SMALLEST_VARIANCE)).clamp_max(1.0)


def trellis_scales(weights: torch.Tensor, bits: int, clip_sigma: float, mantissa_bits: int) -> torch.Tensor:
    """Half of the scales of `sigma_scales`, or more for rows that would not fit into 8 bits; nothing is clipped.

    Args:
        weights: float32, any shape with at least one element.
        bits, clip_sigma: as for `sigma_scales`, with about the same number of bits under an entropy coder.
        mantissa_bits: as for `coarser`.

    Returns:
        float16 [rows] ([1] if not 2-D), infinite where a row is too large for float16.
    """
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    largest = rows.abs().amax(dim=1)
    scales = sigma_scales(weights, bits, clip_sigma / 2)
    scales = coarser(torch.maximum(scales, (largest / LARGEST).to(torch.float16)), mantissa_bits)
    # A scale that was rounded down would clip, so the next larger mantissa is taken.
    above = coarser((scales.float() * (1 + 2.0**-mantissa_bits)).to(torch.float16), mantissa_bits)
    return torch.where(scales.float() * LARGEST < largest, above, scales)


@dataclass(frozen=True)
class Trellis:
    """Settings of trellis-coded quantization; see `trellis_quantize`."""

    states: int
    rate: float

    def integers(self, weights: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """The integers, int8 in the shape of `weights` (float32, any shape, on the CPU), for `scales` float16 or
        float32 [rows].

        The error of each row is measured in its own steps, so that all rows have about the same relative error.
        Measured in absolute terms, rows of small weights would have larger errors for the benefit of the others.
        """
        rows = weights.reshape(as_rows(tuple(weights.shape)))[None]
        steps = scales.float()[None]
        found = paths(rows / steps[..., None], torch.ones_like(steps), self.states, shrink_of(rows, steps, self.rate))
        return found[0].reshape(weights.shape)


def _array(values: Array | torch.Tensor) -> Array:
    array: Array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return array


def _quantize(weights: Array, steps: Array, states: int, rate: float) -> Array:
    if weights.dtype != np.float32 or weights.ndim != 2:
        raise ValueError(f"weights: {weights.dtype} {list(weights.shape)}; they must be float32 [rows, cols]")
    if not np.issubdtype(steps.dtype, np.floating) or steps.shape != weights.shape[:1]:
        raise ValueError(
            f"steps: {steps.dtype} {list(steps.shape)}; they must be floats [{weights.shape[0]}], one a row"
        )
    steps = steps.astype(np.float32)
    if states not in STATES:
        raise ValueError(f"states: {states}; it must be 4 or 8")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"rate: {rate}; it must be 0 or more, and finite")
    if not np.isfinite(weights).all():
        raise ValueError(f"weights: they hold {weights[~np.isfinite(weights)][0]}; they must be finite")
    if not (np.isfinite(steps) & (steps > 0)).all():
        raise ValueError(f"steps: they hold {steps[~(np.isfinite(steps) & (steps > 0))][0]}; they must be above 0")
    batch = torch.from_numpy(np.ascontiguousarray(weights))[None]
    each = torch.from_numpy(np.ascontiguousarray(steps))[None]
    return paths(batch, each, states, shrink_of(batch, each, float(rate)))[0].numpy()
