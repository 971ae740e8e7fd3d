"""Timing on a CPU: one pinned core, warm, ours and each peer in turns so that both see the same disturbances."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.ops.registry import Case

ROUNDS = 31
SECONDS_PER_PEER = 6.0
"""Slow peers get fewer rounds, but at least 5."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds: the median, and the quantiles at 0.2 and 0.8."""

    median: float
    p20: float
    p80: float


@dataclass(frozen=True)
class Comparison:
    """Ours against a peer in pairs. `ratio` is the peer's time over ours, above 1 where ours is faster: the median over
    the pairs, and the quantiles at 0.2 and 0.8."""

    peer: str
    ours: Timing
    theirs: Timing
    ratio: float
    ratio_p20: float
    ratio_p80: float
    rounds: int


@contextmanager
def one_core() -> Iterator[int | None]:
    """Keep this thread on the last core that it may use, and torch on one thread; None where cores cannot be chosen."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if not hasattr(os, "sched_setaffinity"):
        yield None
    else:
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(allowed)})
        yield max(allowed)
        os.sched_setaffinity(0, allowed)
    torch.set_num_threads(threads)


def milliseconds(work: Callable[[], object]) -> float:
    """Of one call, by the clock of the host."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def timing(samples: np.ndarray) -> Timing:
    """Of samples in milliseconds."""
    p20, median, p80 = np.quantile(samples, [0.2, 0.5, 0.8])
    return Timing(float(median), float(p20), float(p80))


def compare_on_cpu(case: Case, peer: str) -> Comparison:
    """Ours, the peer, ours, the peer, ... on the core that the caller pinned."""
    theirs = case.peers[peer]
    case.ours()
    theirs()
    pair = milliseconds(case.ours) + milliseconds(theirs)
    rounds = max(5, min(ROUNDS, int(SECONDS_PER_PEER * 1e3 / pair)))
    samples = np.array([(milliseconds(case.ours), milliseconds(theirs)) for _ in range(rounds)])
    low, ratio, high = np.quantile(samples[:, 1] / samples[:, 0], [0.2, 0.5, 0.8])
    return Comparison(peer, timing(samples[:, 0]), timing(samples[:, 1]), float(ratio), float(low), float(high), rounds)
