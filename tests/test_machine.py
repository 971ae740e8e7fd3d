"""The memory of a process on a CPU."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from golf_fast import machine

FAULTS = """
import resource, torch
from golf_fast import machine
machine.choose_device("cpu")
counts = []
for _ in range(40):  # the heap settles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.empty(1 << 23, dtype=torch.uint8).fill_(1) for _ in range(8)]
    del kept
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(counts[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_of_freed_tensors_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert machine.keep_freed_memory()
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100


def test_a_configured_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert not machine.keep_freed_memory()
