"""Short measurements of what determines the speed of a run: matrix products, memory, collectives, the disk, and a step
of a small model."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from golf_fast import machine, recipes
from golf_fast.distributed import Ranks
from golf_fast.files import new_neighbour
from golf_fast.model import GPT

_LEAST_RUNS = 3
_BLOCK = 8 << 20
_MOST_FILE = 1 << 30


@dataclass(frozen=True)
class Figure:
    """A measured rate.

    Attributes:
        what: name of the measurement: a key of `references.EXPECTED`, "disk write" or "disk read".
        value: median over the repetitions.
        unit: unit of the value.
        spread: range between the slowest and the fastest tenth of the repetitions, as a share of the median.
        runs: number of repetitions.
        note: details of the measurement.
    """

    what: str
    value: float
    unit: str
    spread: float
    runs: int
    note: str = ""


def _rate(
    what: str, unit: str, amount: float, work: Callable[[], object], seconds: float, device: torch.device
) -> Figure:
    """The rate of `work`, which processes `amount` units, in units per second, measured for about `seconds` at most
    including a warm-up."""
    end = time.perf_counter() + seconds
    first = _seconds(work, device)
    rates: list[float] = []
    while not rates or time.perf_counter() + first < end:
        rates.append(amount / _seconds(work, device))
    return Figure(what, statistics.median(rates), unit, _spread(rates), len(rates))


def _spread(rates: list[float]) -> float:
    ordered = sorted(rates)
    tenth = len(ordered) // 10
    return (ordered[-1 - tenth] - ordered[tenth]) / statistics.median(ordered)


def gemm(device: torch.device, seconds: float, size: int | None = None) -> Figure:
    """TFLOP/s of a product of square matrices, in the dtype that a run would compute in."""
    n = size or (8192 if device.type == "cuda" else 1024)
    dtype, _ = machine.choose_compute_dtype("auto", device)
    a, b = (torch.randn(n, n, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    figure = _rate("GEMM", "TFLOP/s", 2e-12 * n**3, lambda: torch.mm(a, b, out=out), seconds, device)
    return replace(figure, note=f"{machine.dtype_name(dtype)}, {n} x {n}{_threads(device)}")


def copy(device: torch.device, seconds: float, size: int | None = None) -> Figure:
    """GB/s of the device's memory, reads and writes together."""
    count = size or (1 << 30 if device.type == "cuda" else 128 << 20)
    source, target = (
        torch.ones(count, dtype=torch.uint8, device=device),
        torch.empty(count, dtype=torch.uint8, device=device),
    )
    figure = _rate("memory copy", "GB/s", 2e-9 * count, lambda: target.copy_(source), seconds, device)
    return replace(figure, note=f"{count >> 20:,} MiB{_threads(device)}")


def host_to_device(device: torch.device, seconds: float, size: int = 256 << 20) -> Figure | str:
    """GB/s from pinned memory of the host; a reason where there is no GPU."""
    if device.type != "cuda":
        return "there is no GPU"
    source, target = (
        torch.ones(size, dtype=torch.uint8).pin_memory(),
        torch.empty(size, dtype=torch.uint8, device=device),
    )
    figure = _rate(
        "host to device", "GB/s", 1e-9 * size, lambda: target.copy_(source, non_blocking=True), seconds, device
    )
    return replace(figure, note=f"{size >> 20:,} MiB, pinned")


def all_reduce(ranks: Ranks, seconds: float, size: int | None = None) -> Figure | str:
    """GB/s that each rank sends and receives in an all-reduce over all ranks, or over the GPUs of this machine; or a
    text with the reason why neither is possible.

    It counts the traffic of a ring all-reduce, 2 (n - 1) / n of the tensor.
    """
    count = size or (256 << 20 if ranks.device.type == "cuda" else 8 << 20)
    if ranks.world_size > 1:
        tensor = torch.ones(count // 4, device=ranks.device)
        moved = 2e-9 * count * (ranks.world_size - 1) / ranks.world_size
        runs = max(_LEAST_RUNS, int(ranks.broadcast_float(_runs(lambda: ranks.all_sum_(tensor), seconds, ranks))))
        rates = []
        for _ in range(runs):  # the same number on all ranks, or some would wait for ever
            tensor.fill_(1.0)
            rates.append(moved / _seconds(lambda: ranks.all_sum_(tensor), ranks.device))
        note = f"{count >> 20:,} MiB over {ranks.world_size} ranks"
        return Figure("all-reduce", statistics.median(rates), "GB/s", _spread(rates), len(rates), note)
    gpus = torch.cuda.device_count() if ranks.device.type == "cuda" else 0
    if gpus < 2:
        return "there is one rank and no second GPU; torchrun measures over its ranks"
    from torch.cuda import nccl

    tensors = [torch.ones(count // 4, device=f"cuda:{index}") for index in range(gpus)]

    def work() -> None:
        nccl.all_reduce(tensors)  # type: ignore[no-untyped-call]
        for index in range(gpus):
            torch.cuda.synchronize(index)

    figure = _rate("all-reduce", "GB/s", 2e-9 * count * (gpus - 1) / gpus, work, seconds, ranks.device)
    return replace(figure, note=f"{count >> 20:,} MiB over {gpus} GPUs of one process")


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _runs(work: Callable[[], object], seconds: float, ranks: Ranks) -> float:
    """The number of repetitions that take about `seconds`, after a first one in which the ranks connect."""
    _seconds(work, ranks.device)
    return min(1000.0, seconds / max(_seconds(work, ranks.device), 1e-6))


def disk(folder: Path, seconds: float, size: int | None = None) -> Iterator[Figure | str]:
    """GB/s of writing a file and of reading it back, bypassing the page cache; or a text with the reason why it cannot
    be written. The file is removed."""
    path = new_neighbour(folder / "preflight")
    try:
        free = os.statvfs(folder)
        most = min(size or _MOST_FILE, free.f_bavail * free.f_frsize // 10)
        block = os.urandom(min(_BLOCK, max(most, 4096)))
        with path.open("wb", buffering=0) as file:
            began, written = time.perf_counter(), 0
            while written < most and (not written or time.perf_counter() - began < seconds / 2):
                written += file.write(block)
                os.fsync(file.fileno())  # each time: else a slow disk takes long over what it was given at once
            took = time.perf_counter() - began
        yield Figure("disk write", 1e-9 * written / took, "GB/s", 0.0, 1, f"{written >> 20:,} MiB to {folder}")
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):  # drop the page cache, so that the file is read from the disk
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            began, read = time.perf_counter(), 0
            while (got := len(file.read(_BLOCK))) and time.perf_counter() - began < seconds / 2:
                read += got
            took = time.perf_counter() - began
        yield Figure("disk read", 1e-9 * max(read, 1) / took, "GB/s", 0.0, 1, f"{read >> 20:,} MiB from {folder}")
    except OSError as error:
        yield f"{folder}: {error.strerror}"
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def micro_step(device: torch.device, seconds: float, tokens: int = 2048) -> Figure:
    """Tokens per second of forward and backward passes of the model of the recipe tiny."""
    config = recipes.RECIPES["tiny"]()
    dtype, _ = machine.choose_compute_dtype("auto", device)
    model = GPT(config.model, compute_dtype=dtype, embedding_dtype=dtype, seed=1).to(device)
    length = min(config.train.seq_len, tokens)
    batch = torch.randint(config.model.vocab_size, (max(1, tokens // length), length + 1), device=device)

    def work() -> None:
        torch.autograd.backward(model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous()))
        for parameter in model.parameters():
            parameter.grad = None

    work()  # compiles the kernels
    count = batch.shape[0] * length
    figure = _rate("micro-step", "tokens/s", count, work, seconds, device)
    return replace(figure, note=f"recipe tiny, {count:,} tokens, {machine.dtype_name(dtype)}{_threads(device)}")


def _threads(device: torch.device) -> str:
    return f", {torch.get_num_threads()} thread(s)" if device.type == "cpu" else ""
