"""The stopwatch of a GPU, with a device that is made up."""

from __future__ import annotations

import pytest
import torch

from benchmarks import measure_gpu


class Device:
    """Counts what it waits; a work takes the host `host` milliseconds, and the device 2."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: list[float]) -> None:
        self.now, self.host, self.waits = 0.0, host, []
        made = torch.empty(1)
        monkeypatch.setattr(torch, "empty", lambda *_, **__: made)
        monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: self.waits.append(cycles / 2_000_000))
        monkeypatch.setattr(measure_gpu.time, "perf_counter", lambda: self.now / 1e3)
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: self)

    def record(self) -> None: ...
    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Device) -> float:
        return 2.0

    def work(self) -> None:
        self.now += self.host.pop(0)


def test_the_host_gets_a_head_start_that_covers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, [5.0, 5.0, 5.0, 0.1, 0.1])
    watch, work = measure_gpu.Stopwatch(), device.work
    assert watch.milliseconds(work) == 2.0
    assert device.waits == pytest.approx([1.0, 7.5])  # the first was too short, so it was taken again
    watch.milliseconds(work)
    assert len(device.waits) == 3
    watch.milliseconds(work)
    watch.milliseconds(work)
    assert device.waits[3:] == pytest.approx([7.5, 1.0])  # and less again for a short work


def test_each_work_has_a_head_start_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, [5.0, 5.0, 0.1, 5.0, 0.1])
    watch, made = measure_gpu.Stopwatch(), []
    long, short = (lambda: device.work()), (lambda: device.work())
    for work in (long, short, long, short):
        watch.milliseconds(work, lambda: made.append(len(device.waits)))
    assert device.waits == pytest.approx([1.0, 7.5, 1.0, 7.5, 1.0])
    assert made == [0, 1, 2, 3, 4]  # what a work uses up is made before each try
    del long, short, work
    assert not watch.head_starts  # a later work may be at the address of one that is gone


def test_work_that_waits_for_the_device_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, [1e4] * measure_gpu.TRIES)
    measure_gpu.Stopwatch().milliseconds(device.work)
    assert max(device.waits) == measure_gpu.LONGEST_HEAD_START
