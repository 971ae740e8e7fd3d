"""Timing on a GPU: device events, a flushed L2 cache, ours and each peer in turns; and that GPU's ceilings."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Comparison, timing
from benchmarks.ops.registry import Case

ROUNDS = 51
FLUSHED_BYTES = 256 << 20
"""Written before each sample: five times the L2 cache of an H100."""
HEAD_START_CYCLES = 2_000_000
"""About a millisecond of waiting on the device, in which the host queues what is timed: so no launch gap is."""


class Stopwatch:
    """Milliseconds on the device of one call at a time, each with a cold L2 cache."""

    def __init__(self) -> None:
        self.scratch = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device="cuda")

    def milliseconds(self, work: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(HEAD_START_CYCLES)  # type: ignore[no-untyped-call]
        self.scratch.zero_()
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


def compare_on_gpu(case: Case, peer: str, stopwatch: Stopwatch) -> Comparison:
    """Ours, the peer, ours, the peer, ..., after three warm rounds."""
    theirs = case.peers[peer]
    for _ in range(3):
        case.ours()
        theirs()
    samples = np.array([(stopwatch.milliseconds(case.ours), stopwatch.milliseconds(theirs)) for _ in range(ROUNDS)])
    low, ratio, high = np.quantile(samples[:, 1] / samples[:, 0], [0.2, 0.5, 0.8])
    return Comparison(peer, timing(samples[:, 0]), timing(samples[:, 1]), float(ratio), float(low), float(high), ROUNDS)


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
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None
