"""Trellis-coded quantization in NumPy, the definition that csrc/trellis/ reproduces bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
FLIPS = {4: np.array([0, 0, 1, 1]), 8: np.array([0, 0, 1, 1, 1, 1, 0, 0])}
"""For each number of states and each state: 1 if its first branch is that of integers that are 2 or 3 modulo 4."""
SUBSETS = np.arange(4)[:, None]


def next_states(states: int) -> Array:
    """The next state after integer q in state s, at `[s, q >> 1 & 1]`: int64 `[states, 2]`."""
    state = np.arange(states)[:, None]
    following: Array = 2 * state + (np.arange(2) ^ FLIPS[states][:, None]) & states - 1
    return following


def quantize(weights: Array, steps: Array, states: int, shrink: Array) -> Array:
    """The paths of least cost down the columns of one matrix, found by Viterbi's algorithm.

    A path starts in state 0. State s allows integers of parity s & 1. The cost of an integer is
    `(weight - q * step)^2 + shrink * (q * step)^2`, summed in float64 from the first row to the last. Of paths with
    equal cost the one from the lower state is taken.

    Args:
        weights: float32 `[rows, cols]`, finite.
        steps: float32 `[rows]`, above 0.
        states: 4 or 8.
        shrink: float64 `[rows]`, 0 or more.

    Returns:
        int8 `[rows, cols]`.
    """
    rows, cols = weights.shape
    state = np.arange(states)
    branch, low = state & 1, state >> 1
    high = low + states // 2
    low_subset, high_subset = ((each & 1) + 2 * (branch ^ FLIPS[states][each]) for each in (low, high))
    costs = np.full((states, cols), np.inf)
    costs[0] = 0
    integers, from_high = np.empty((rows, 4, cols), np.int8), np.empty((rows, states, cols), bool)
    for row in range(rows):
        weight, step = weights[row].astype(np.float64), np.float64(steps[row])
        target = np.clip(weight / (step * (1.0 + shrink[row])), -1024.0, 1024.0)
        integer = np.clip(np.rint((target - SUBSETS) * 0.25), -32.0, 31.0) * 4.0 + SUBSETS
        value = integer * step
        error = weight - value
        cost = error * error + shrink[row] * (value * value)
        by_low, by_high = costs[low] + cost[low_subset], costs[high] + cost[high_subset]
        integers[row], from_high[row] = integer, by_high < by_low
        costs = np.where(from_high[row], by_high, by_low)
    values, column = np.empty((rows, cols), np.int8), np.arange(cols)
    at = costs.argmin(axis=0)
    for row in range(rows - 1, -1, -1):
        high_taken = from_high[row, at, column]
        values[row] = integers[row, np.where(high_taken, high_subset[at], low_subset[at]), column]
        at = np.where(high_taken, high[at], low[at])
    return values


def quantize_block(weights: Array, factor: Array, steps: Array, states: int, shrink: Array) -> tuple[Array, Array]:
    """The integers of a block of columns under GPTQ, one after the other: later columns compensate for earlier errors.

    Args:
        weights: float32 `[width, rows]`, transposed; modified in place.
        factor: float32 `[width, width]`, upper triangular.
        steps, states, shrink: as for `quantize`.

    Returns:
        int8 and float32 `[width, rows]`: the integers, and the errors divided by the diagonal of the factor.
    """
    values, errors = np.empty(weights.shape, np.int8), np.empty_like(weights)
    for column in range(len(weights)):
        values[column] = quantize(weights[column][:, None], steps, states, shrink)[:, 0]
        rounded = values[column].astype(np.float32) * steps
        errors[column] = (weights[column] - rounded) / factor[column, column]
        weights[column + 1 :] -= factor[column, column + 1 :, None] * errors[column]
    return values, errors
