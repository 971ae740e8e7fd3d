"""One JSON line for each measurement, with all that it depends on, in the folder that `folder` says."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.measure import Comparison
from benchmarks.ops.registry import Case

VARIABLE, COMMIT = "GOLF_FAST_RESULTS", "GOLF_FAST_COMMIT"
NO_CODE = ("benchmarks/results", "golf_fast/recipes/measured.jsonl", "docs", "*.md")
"""Places in the checkout that nothing measured depends on; measuring writes to some of them."""
PACKAGES = ("torch", "triton", "numpy")
PEERS = ("quack-kernels", "flash-attn-4", "flash-attn", "liger-kernel", "torchao")


def folder() -> Path:
    """Where measurements are written, and read by default: what GOLF_FAST_RESULTS names, or benchmarks/results/."""
    return Path(os.environ.get(VARIABLE) or Path(__file__).parent / "results")


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--results DIR`, of every command that measures."""
    parser.add_argument(
        "--results",
        type=_name_folder,
        metavar="DIR",
        help=f"write measurements there (default: {VARIABLE}, or the checkout's benchmarks/results)",
    )


def _name_folder(text: str) -> Path:
    """Takes effect at once, for this program and those that it starts."""
    os.environ[VARIABLE] = str(Path(text).absolute())
    return Path(text)


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
    """The commit of the checkout, with a + if its code was changed since; outside of one what GOLF_FAST_COMMIT says."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    code = [".", *(f":(exclude){place}" for place in NO_CODE)]
    try:
        known = _said([*git, "describe", "--always", "--exclude=*"])
        changed = _said([*git, "status", "--porcelain", "--untracked-files=no", "--", *code])
        return known + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT, "")


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def environment(device_kind: str) -> dict[str, Any]:
    """Device, versions, commit and time, and the load: above the number of cores, times suffer from other work."""
    gpu = None
    if device_kind == "cuda":
        import torch

        gpu = torch.cuda.get_device_name()
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
    """A measurement as plain values; on a GPU also in percent of the ceilings in `around`.

    Without a peer, `theirs` and the ratios are None.
    """
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
    """Add a line to the op's file; it is there when this returns."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / f"{row['op']}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
