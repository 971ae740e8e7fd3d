"""Matrices of integers that the entropy coder has models for, and which model it took."""

import numpy as np
import pytest

from golf_fast.compress import trellis_quantize
from golf_fast.ops import backends, extension

STORED, GLOBAL, ROW, RANK1, HISTOGRAM, GENERAL = range(6)
needs_extension = pytest.mark.skipif(extension.missing is not None, reason=f"{extension.missing}")


def use(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, f"rans={backend}")
    backends.forget()


def clipped(values: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.rint(values), -(1 << bits - 1), (1 << bits - 1) - 1).astype(np.int8)


def rank1(rows: int, cols: int, bits: int, sigma: float, spread: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    scale = 2 ** (spread * random.normal(size=(rows, 1))) * 2 ** (spread * random.normal(size=cols))
    return clipped(random.normal(size=(rows, cols)) * sigma * scale, bits)


def by_row(rows: int, cols: int, bits: int, seed: int) -> np.ndarray:
    sigmas = 2.0 ** (1 + np.arange(rows) % 5)
    return clipped(np.random.default_rng(seed).normal(size=(rows, cols)) * sigmas[:, None], bits)


def on_a_trellis(rows: int, cols: int, states: int, step: float, seed: int, alike: float = 0.0) -> np.ndarray:
    """Quantized Gaussians of unequal scales, a share of the rows much alike."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(rows, cols)) * np.exp(0.3 * random.normal(size=(rows, 1)))
    members = random.random(rows) < alike
    weights[members] = random.normal(size=cols) + 0.1 * weights[members]
    return trellis_quantize(weights.astype(np.float32), np.full(rows, step, np.float32), states)


def alike(rows: int, cols: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, cols)) * 9
    values[::3] = random.normal(size=cols) * 9 + 0.5 * random.normal(size=values[::3].shape)
    return clipped(values, 6)


def kind(blob: bytes) -> int:
    return blob[0] & 15


EXAMPLES = {
    "0x0": (np.zeros((0, 0), np.int8), 6, STORED),
    "0x7": (np.zeros((0, 7), np.int8), 6, STORED),
    "7x0": (np.zeros((7, 0), np.int8), 6, STORED),
    "1x1": (np.full((1, 1), -3, np.int8), 5, STORED),
    "all equal": (np.full((90, 100), -32, np.int8), 6, HISTOGRAM),
    "zeros": (np.zeros((300, 300), np.int8), 8, GLOBAL),
    "uniform bytes": (np.random.default_rng(0).integers(-128, 128, (50, 60)).astype(np.int8), 8, STORED),
    "two far symbols": (np.random.default_rng(1).choice(np.array([-128, 127], np.int8), (80, 90)), 8, HISTOGRAM),
    "one sigma": (rank1(70, 70, 6, 7.0, 0.0, 2), 6, GLOBAL),
    "one row": (rank1(1, 5000, 5, 4.0, 0.0, 3), 5, GLOBAL),
    "one column": (rank1(5000, 1, 5, 4.0, 0.0, 3), 5, GLOBAL),
    "row sigmas": (by_row(40, 300, 7, 4), 7, ROW),
    "rank 1": (rank1(140, 150, 6, 5.0, 0.7, 5), 6, RANK1),
    "many lanes": (rank1(130, 257, 8, 20.0, 1.0, 6), 8, RANK1),
    "two bits": (rank1(60, 70, 2, 0.7, 0.0, 7), 2, GLOBAL),
    "extreme scales": (
        clipped(np.random.default_rng(8).normal(size=(60, 80)) * np.logspace(-4, 4, 80), 8),
        8,
        HISTOGRAM,
    ),
    "trellis": (on_a_trellis(150, 60, 8, 0.2, 9), 8, GENERAL),
    "trellis of 4 states": (on_a_trellis(90, 80, 4, 0.15, 10), 8, GENERAL),
    "trellis in five bits": (on_a_trellis(90, 80, 8, 0.5, 11), 5, GENERAL),
    "wide trellis": (on_a_trellis(30, 300, 8, 0.03, 12), 8, GENERAL),
    "narrow trellis": (on_a_trellis(4100, 3, 8, 0.2, 13), 8, GENERAL),
    "alike rows": (alike(90, 110, 14), 6, GENERAL),
    "trellis and alike rows": (on_a_trellis(200, 70, 8, 0.1, 15, alike=0.3), 8, GENERAL),
}
