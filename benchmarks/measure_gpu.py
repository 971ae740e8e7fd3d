"""Timing on a GPU: device events, a flushed L2 cache, ours and each peer in turns; and that GPU's ceilings."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from benchmarks.measure import ALONE, Comparison, alone, nothing, paired
from benchmarks.ops.registry import Case

ROUNDS = 51
FLUSHED_BYTES = 256 << 20
"""Written before each sample: five times the L2 cache of an H100."""
CYCLES_PER_MILLISECOND = 2_000_000
"""Of the fastest clock that such GPUs have: a wait of this many is a millisecond or a little more."""
HEAD_START, LONGEST_HEAD_START = 1.0, 100.0
"""Milliseconds that the device waits at first, in which the host queues what is timed: so no launch gap is in it."""
TRIES = 4


class Stopwatch:
    """Milliseconds on the device of one call at a time, each with a cold L2 cache.

    The device waits before each call until the host has queued all of it: half as long again as the host took for the
    call of the same work before. A sample in which the host was slower is taken again; work that waits for the device
    is never faster than it, and counts as it is after a few tries.
    """

    def __init__(self) -> None:
        self.scratch = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device="cuda")
        self.head_starts: WeakKeyDictionary[Callable[[], object], float] = WeakKeyDictionary()

    def milliseconds(self, work: Callable[[], object], before: Callable[[], object] = nothing) -> float:
        """Of one call of `work`; `before` is called before each try, off the clock, and makes what a call uses up."""
        for _ in range(TRIES):
            waited = self.head_starts.get(work, HEAD_START)
            before()
            found, host = self._sample(work, waited)
            self.head_starts[work] = min(max(HEAD_START, 1.5 * host), LONGEST_HEAD_START)
            if host <= waited:
                break
        return found

    def _sample(self, work: Callable[[], object], head_start: float) -> tuple[float, float]:
        """Milliseconds on the device, and until the host had queued the work."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(int(head_start * CYCLES_PER_MILLISECOND))  # type: ignore[no-untyped-call]
        self.scratch.zero_()
        start.record()
        before = time.perf_counter()
        work()
        host = (time.perf_counter() - before) * 1e3
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)), host


def host_milliseconds(work: Callable[[], object], rounds: int = 5) -> float:
    """The median of what the host takes to queue the work on an idle device."""
    samples = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        before = time.perf_counter()
        work()
        samples.append((time.perf_counter() - before) * 1e3)
    torch.cuda.synchronize()
    return float(np.median(samples))


def compare_on_gpu(case: Case, peer: str, stopwatch: Stopwatch) -> Comparison:
    """Ours, the peer, ours, the peer, ..., after three warm rounds; ours only where the peer is `ALONE`."""
    works = [case.ours] if peer == ALONE else [case.ours, case.peers[peer]]
    for _ in range(3):
        for work in works:
            work()
    samples = np.array([[stopwatch.milliseconds(work) for work in works] for _ in range(ROUNDS)])
    return alone(samples[:, 0]) if peer == ALONE else paired(peer, samples)


def ceilings(stopwatch: Stopwatch) -> dict[str, Any]:
    """bf16 TFLOP/s of an 8192^3 product of random matrices, and GB/s (read + write) of a copy of 1 GiB."""
    a, b = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    source = torch.randint(256, (1 << 30,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def median(work: Callable[[], object]) -> float:
        work()
        return float(np.median([stopwatch.milliseconds(work) for _ in range(ROUNDS)]))

    return {
        "ceiling_teraflops": 2 * 8192**3 / median(lambda: torch.mm(a, b)) / 1e9,
        "ceiling_gigabytes_per_second": 2 * source.numel() / median(lambda: target.copy_(source)) / 1e6,
        "clocks": clocks(),
    }


def clocks() -> str | None:
    """Current and largest clock of the multiprocessors and of the memory, MHz, as the driver's tool says them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = "clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit"
    command = [tool, f"--query-gpu={query}", "--format=csv,noheader", f"--id={torch.cuda.current_device()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
