"""How sure a difference in bits per byte is: a paired bootstrap over documents.

The documents are drawn again with replacement, the same for both runs, and the difference of each draw is computed as
that of the whole is: all nats over all bytes. Each document's number of copies is drawn by itself, from Poisson(1) in
steps of 1/256, where the textbook draws all of them together (Poisson bootstrap: Hanley and MacGibbon 2006; Chamandy
et al. 2012); mean and variance of that table are 1.004.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
SEED = 0
CONFIDENCE = 0.95
_AT_LEAST = (162, 68, 21, 5, 1)
"""How many of the 256 values of a byte mean at least 1, 2, 3, 4 and 5 copies."""
_TOGETHER = 1 << 20
"""Number of copies that are drawn at once, one byte each, so that they stay in the cache."""

Column = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A run against the first, in bits per byte; below 0 it is better.

    Attributes:
        run: name of the run.
        bpb: bits per byte of the run minus those of the first run.
        low, high: bounds of the confidence interval by the percentiles of the resamples; None with one document only.
        error: standard deviation over the resamples; None with one document only.
        better: share of the resamples in which the run is better than the first; None with one document only.
        documents: number of documents that are compared.
        bytes: total size of these documents, in bytes.
    """

    run: str
    bpb: float
    low: float | None
    high: float | None
    error: float | None
    better: float | None
    documents: int
    bytes: int

    @property
    def sure(self) -> bool:
        """Whether the confidence interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def differences(
    names: Sequence[str],
    nats: Sequence[Column],
    sizes: npt.NDArray[np.int64],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Difference]:
    """The difference between each later run and the first one. Equal arguments give equal results.

    Args:
        names: name of each run.
        nats: for each run the total loss of each document, `[documents]` float64, in nats.
        sizes: size of each document, `[documents]` int64, in bytes.
        resamples: number of resamples of the documents.
        seed: seed of the resampling.
    """
    size = int(sizes.sum())
    changes = np.stack([column - nats[0] for column in nats[1:]], axis=1)
    means = changes.sum(axis=0) / size
    # The difference of a resample is the mean plus the resampled deviations from it: small numbers, which float32 holds
    # well.
    rest = changes - sizes[:, None] * means
    drawn = _resampled(np.column_stack([rest, sizes]), resamples, seed) if len(sizes) > 1 else np.empty((0, 1))
    drawn = drawn[drawn[:, -1] > 0]
    found = []
    for place, (name, mean) in enumerate(zip(names[1:], means.tolist(), strict=True)):
        bpb = mean / math.log(2)
        if not len(drawn):
            found.append(Difference(name, bpb, None, None, None, None, len(sizes), size))
            continue
        values = (mean + drawn[:, place] / drawn[:, -1]) / math.log(2)
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
        better = float((values < 0).mean())
        found.append(Difference(name, bpb, low, high, float(values.std()), better, len(sizes), size))
    return found


def _resampled(columns: npt.NDArray[np.float64], resamples: int, seed: int) -> npt.NDArray[np.float64]:
    """Sums of the columns `[documents, n]` over each resample, `[resamples, n]`."""
    documents = len(columns)
    generator = np.random.Generator(np.random.SFC64(seed))
    scale = np.abs(columns).max(axis=0)
    scale[scale == 0] = 1
    scaled = (columns / scale).astype(np.float32)
    at_once = max(1, _TOGETHER // documents)
    sums = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        words = -(-count * documents // 8)
        drawn = generator.integers(0, 1 << 64, words, dtype=np.uint64).view(np.uint8)[: count * documents]
        copies = (drawn < _AT_LEAST[0]).view(np.uint8)
        for bound in _AT_LEAST[1:]:
            copies += (drawn < bound).view(np.uint8)
        sums[start : start + count] = copies.reshape(count, documents).astype(np.float32) @ scaled
    whole: npt.NDArray[np.float64] = sums * scale
    return whole
