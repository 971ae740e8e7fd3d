"""Timing on a CPU: on one pinned core, after a warm-up, ours and a peer alternately so that both see the same
disturbances."""

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
"""Time in seconds for each peer; slow peers get fewer rounds, but at least 5."""


@dataclass(frozen=True)
class Timing:
    """A time in milliseconds: the median, and the quantiles at 0.2 and 0.8."""

    median: float
    p20: float
    p80: float


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of ours with a peer. `ratio` is the peer's time divided by ours (above 1 if ours is faster):
    the median over the pairs, and the quantiles at 0.2 and 0.8; None if ours was timed without a peer (`ALONE`)."""

    peer: str
    ours: Timing
    theirs: Timing | None
    ratio: float | None
    ratio_p20: float | None
    ratio_p80: float | None
    rounds: int


ALONE = "none"
"""Name that stands for no peer."""


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


def nothing() -> None:
    """Do nothing; the default preparation of a measurement."""


def milliseconds(work: Callable[[], object], before: Callable[[], object] = nothing) -> float:
    """Time of one call of `work` by the clock of the host; `before` is called first and not timed."""
    before()
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def timing(samples: np.ndarray) -> Timing:
    """The timing of samples in milliseconds."""
    p20, median, p80 = np.quantile(samples, [0.2, 0.5, 0.8])
    return Timing(float(median), float(p20), float(p80))


def alone(samples: np.ndarray) -> Comparison:
    """The comparison for samples of ours in milliseconds, without a peer."""
    return Comparison(ALONE, timing(samples), None, None, None, None, len(samples))


def paired(peer: str, samples: np.ndarray) -> Comparison:
    """The comparison for pairs `[rounds, 2]` of times of ours and of the peer, in milliseconds."""
    low, ratio, high = map(float, np.quantile(samples[:, 1] / samples[:, 0], [0.2, 0.5, 0.8]))
    return Comparison(peer, timing(samples[:, 0]), timing(samples[:, 1]), ratio, low, high, len(samples))


def compare_on_cpu(case: Case, peer: str) -> Comparison:
    """Time ours and the peer alternately, on the core that the caller has pinned; only ours if the peer is `ALONE`."""
    works = [case.ours] if peer == ALONE else [case.ours, case.peers[peer]]
    for work in works:
        work()
    once = sum(milliseconds(work) for work in works)
    rounds = max(5, min(ROUNDS, int(SECONDS_PER_PEER * 1e3 / once)))
    samples = np.array([[milliseconds(work) for work in works] for _ in range(rounds)])
    return alone(samples[:, 0]) if peer == ALONE else paired(peer, samples)
