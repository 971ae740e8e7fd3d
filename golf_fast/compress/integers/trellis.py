"""Trellis-coded quantization: integers on a grid of half the usual step, of which a coder pays for every second.

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
"""Of a weight under 8 states, in squares of the step, where the step is well below the weights (1/3 for a uniform grid
of twice the step)."""
SMALLEST_VARIANCE = 1 / 16
BITS = 8
"""Width of the integers: wide enough for all but a few rows, which get a larger step; an entropy coder pays for what is
used of it."""
LARGEST = 120.0
"""Steps that the largest magnitude of a row has at most: 124 fit every path, and GPTQ moves weights."""

_Matrix = TypeVar("_Matrix", Array, torch.Tensor)

backends.register(
    "trellis",
    backends.Candidate("native", "golf_fast._C has it; it runs on the CPU", extension.obstacle),
    backends.Candidate("numpy", "NumPy runs anywhere", backends.anywhere),
)


def trellis_quantize(weights: _Matrix, steps: _Matrix, states: int = 8, rate: float = 0.0) -> _Matrix:
    """Integers `q`, paths of the trellis down each column, for which `q * steps[:, None]` is nearest to the weights.

    Every matrix has the same result on every machine.

    Args:
        weights: float32 [rows, cols] of NumPy or torch, on any device and of any strides.
        steps: floats [rows]: what the integer 1 stands for in each row, half the step of a uniform quantizer of as many
            bits under an entropy coder.
        states: 4 or 8; the more, the smaller the error at the same bits.
        rate: what a bit counts against squared error, as a share of the slope of the rate-distortion bound. 0 minimises
            the error; 1 saves most bytes at a given error, which shows below 4 bits a weight. Bits are those of a
            Gaussian of the row's root mean square.

    Returns:
        int8 [rows, cols], an array or a tensor as `weights` is. A weight beyond 127 steps goes to the limit.

    Raises:
        ValueError: another dtype or shape, a step that is not above 0, a number that is not finite.
    """
    if isinstance(weights, torch.Tensor):
        device = weights.device
        found = _quantize(weights.detach().cpu().numpy(), _array(steps), states, rate)
        return torch.from_numpy(found).to(device)
    return _quantize(weights, _array(steps), states, rate)


def paths(weights: torch.Tensor, steps: torch.Tensor, states: int, shrink: torch.Tensor | None) -> torch.Tensor:
    """The same for a batch of matrices, without checks.

    Args:
        weights: float32 `[n, rows, cols]`, finite, on the CPU.
        steps: float32 `[n, rows]`, above 0, on the CPU.
        states: 4 or 8.
        shrink: float64 `[n, rows]`, 0 or more, on the CPU (`shrink_of`); None for zeros.

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
    """A block of columns under GPTQ: paths one after the other, each with the errors of those before it fed back.

    Args:
        weights: float32 `[n, width, rows]`, columns as rows, on the CPU; may be changed.
        factor: float32 `[n, width, width]`, the block's part of the inverse Hessian's upper Cholesky factor.
        steps, states, shrink: as for `paths`.

    Returns:
        int8 and float32 `[n, width, rows]`: the integers, and the errors over the diagonal of the factor.
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
    """What the bits of each row count: a value v costs `shrink * v^2` beside its squared error.

    An integer q of a Gaussian row of variance V, in squares of the step, takes `q^2 log2(e) / 2V` bits and a constant;
    a bit is worth `rate` times `2 ln(2)` times the squared error of a weight.

    Args:
        weights: float32 `[..., rows, cols]`.
        steps: float32 `[..., rows]`.
        rate: as for `trellis_quantize`.

    Returns:
        float64 `[..., rows]`; None if `rate` is 0.
    """
    if rate == 0:
        return None
    # Sums of integers: their order cannot show.
    integers = (weights.double() / steps.double()[..., None]).round_().clamp_(-1024, 1024).to(torch.int64)
    variance = integers.square_().sum(dim=-1).double() / max(weights.shape[-1], 1)
    return rate * (SQUARED_ERROR / variance.clamp_min(SMALLEST_VARIANCE)).clamp_max(1.0)


def trellis_scales(weights: torch.Tensor, bits: int, clip_sigma: float, mantissa_bits: int) -> torch.Tensor:
    """Half of the steps of `sigma_scales`, larger where a row would not fit into 8 bits; nothing is clipped.

    Args:
        weights: float32, any shape with at least one element.
        bits, clip_sigma: as for `sigma_scales`: the entropy coder then needs about as many bits.
        mantissa_bits: as for `coarser`.

    Returns:
        float16 [rows] ([1] if not 2-D), infinite where a row is too large for float16.
    """
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    largest = rows.abs().amax(dim=1)
    scales = sigma_scales(weights, bits, clip_sigma / 2)
    scales = coarser(torch.maximum(scales, (largest / LARGEST).to(torch.float16)), mantissa_bits)
    # Rounded down it would clip: the next one of these mantissas.
    above = coarser((scales.float() * (1 + 2.0**-mantissa_bits)).to(torch.float16), mantissa_bits)
    return torch.where(scales.float() * LARGEST < largest, above, scales)


@dataclass(frozen=True)
class Trellis:
    """How integers follow a trellis; arguments as for `trellis_quantize`."""

    states: int
    rate: float

    def integers(self, weights: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """int8 of the shape of `weights`, float32 of any shape on the CPU; `scales` float16 or float32 [rows].

        The error of each row counts in its own steps: rows lose equal shares of their squares, as when rounded one by
        one. Counted as it is, the rows of small weights would lose more for the sake of the others.
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
