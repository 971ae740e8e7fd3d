"""One JSON line for each measurement, in benchmarks/results/, with all that it depends on."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Comparison
from benchmarks.ops.registry import Case

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("torch", "triton", "numpy")
PEERS = ("quack-kernels", "flash-attn-4", "flash-attn", "liger-kernel", "torchao")


def processor() -> str:
    """The CPU's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """The commit of the checkout, with a + if it was changed since; empty outside of one."""
    try:
        command = ["git", "-C", str(FOLDER.parent), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment(device_kind: str) -> dict[str, Any]:
    """Device, versions, commit and time, and the load: above the number of cores, times suffer from other work."""
    gpu = torch.cuda.get_device_name() if device_kind == "cuda" else None
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": gpu or processor(),
        "device_kind": device_kind,
        "cpu": processor(),
        "python": platform.python_version(),
        "versions": {
            **{package: _version(package) for package in PACKAGES},
            **{package: version for package in PEERS if (version := _version(package))},
        },
        "commit": commit(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def record(case: Case, comparison: Comparison, around: dict[str, Any]) -> dict[str, Any]:
    """A measurement as plain values; on a GPU also in percent of the ceilings in `around`."""
    seconds = comparison.ours.median / 1e3
    row = {
        "op": case.op,
        "case": case.label,
        "implementation": case.implementation,
        "gigabytes_per_second": case.bytes_moved / seconds / 1e9,
        "teraflops": case.flops / seconds / 1e12,
        **dataclasses.asdict(comparison),
        **around,
    }
    if "ceiling_teraflops" in around:
        row["percent_of_gemm"] = 100 * row["teraflops"] / around["ceiling_teraflops"]
        row["percent_of_copy"] = 100 * row["gigabytes_per_second"] / around["ceiling_gigabytes_per_second"]
    return row


def append(row: dict[str, Any]) -> None:
    """Add a line to the op's file."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{row['op']}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
