"""Causes of slow runs outside the program: other load, limits of a container, and environment settings. Needs no
torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

TRAPS = {
    "NCCL_IB_DISABLE": (
        "1",
        "InfiniBand is not used, and a step that is 44 ms with it was seen to take 60",
    ),
    "NCCL_P2P_DISABLE": ("1", "GPUs copy to each other through the host's memory instead of NVLink"),
    "NCCL_SHM_DISABLE": ("1", "GPUs without NVLink talk over the network"),
    "NCCL_NVLS_ENABLE": ("0", "NVLink's switch adds nothing up"),
    "CUDA_LAUNCH_BLOCKING": ("1", "the host waits for every kernel"),
    "TORCH_DISTRIBUTED_DEBUG": ("DETAIL", "every exchange is checked by another one"),
    "TORCH_SHOW_CPP_STACKTRACES": ("1", "every warning takes a stack"),
    "PYTORCH_NO_CUDA_MEMORY_CACHING": ("1", "every tensor is allocated by the driver, which waits for the GPU"),
    "NVIDIA_TF32_OVERRIDE": ("0", "no product of float32 uses the tensor cores"),
    "TRITON_INTERPRET": ("1", "kernels are interpreted"),
    "TORCHDYNAMO_DISABLE": ("1", "nothing is compiled"),
    "TORCH_COMPILE_DISABLE": ("1", "nothing is compiled"),
}
"""Environment variables whose value can cost speed: the value, and the effect."""
OLDEST, NEWEST = (2, 11), (2, 14)
"""Versions of torch that this package is tested with."""
_SHARED_MEMORY = 1 << 30
_LEAST_FREE_SHARE = 0.1


class Trouble(NamedTuple):
    """Something that costs speed, or may."""

    kind: Literal["slow", "busy", "fault", "trap"]
    """A "trap" is a setting that is known to cost speed; the other kinds are observed."""
    what: str
    text: str


def settings(environment: Mapping[str, str]) -> Iterator[Trouble]:
    """Environment variables that are known to cost speed."""
    for name, (value, costs) in TRAPS.items():
        if environment.get(name, "").strip().upper() == value:
            yield Trouble("trap", name, f"is {value}: {costs}; unset it")
    if int(environment.get("WORLD_SIZE") or 1) > 1 and not environment.get("OMP_NUM_THREADS"):
        yield Trouble("trap", "OMP_NUM_THREADS", "is not set: each rank takes all cores; set it to cores / ranks")
    if environment.get("NCCL_DEBUG", "").upper() == "TRACE":
        yield Trouble("trap", "NCCL_DEBUG", "is TRACE: every exchange is written down; unset it")


def torch_version(version: str, debug: bool = False) -> Iterator[Trouble]:
    """Troubles with the build of torch.

    Args:
        version: the value of `torch.__version__`.
        debug: whether it is a debug build.
    """
    numbers = tuple(int(part) for part in version.partition("+")[0].split(".")[:2] if part.isdigit())
    if debug:
        yield Trouble("trap", "torch", f"{version} was built for debugging, and is slow; install a release")
    if ".dev" in version or "git" in version:
        yield Trouble("trap", "torch", f"{version} is no release: nobody has measured it; install one")
    if numbers and not OLDEST <= numbers <= NEWEST:
        spans = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        yield Trouble("trap", "torch", f"{version} is none of {spans}, which golf_fast is tested with")


def cores() -> float:
    """Number of cores that this process may use, by its affinity and by the quota of its container."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(float(mine), quota() or float(mine))


def quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Number of cores that the container may use on average; None: no limit."""
    try:
        if (root / "cpu.max").exists():
            granted, period = _text(root / "cpu.max").split()[:2]
        else:
            granted, period = (_text(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        return float(granted) / float(period) if float(granted) > 0 else None
    except (OSError, ValueError):  # "max", or no such file
        return None


def machine(root: Path = Path("/"), load: float | None = None) -> Iterator[Trouble]:
    """Other work on the machine, and limits that are easily overlooked.

    Args:
        root: where `sys`, `proc` and `dev` are.
        load: load average of the last minute; None: that of the system.
    """
    there, may = os.cpu_count() or 1, cores()
    limit = quota(root / "sys/fs/cgroup")
    if limit is not None and limit < there:
        yield Trouble(
            "trap",
            "container",
            f"may use {limit:g} of {there} cores; set OMP_NUM_THREADS to at most {max(1, int(limit))}",
        )
    governor = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    if governor.exists() and (name := _text(governor)) not in ("performance", "schedutil"):
        yield Trouble("trap", "CPU governor", f"is {name}: cores speed up late; its administrator can set performance")
    memory = _memory(root / "proc/meminfo")
    if memory.get("MemTotal") and memory.get("MemAvailable", 0) < _LEAST_FREE_SHARE * memory["MemTotal"]:
        yield Trouble(
            "trap", "memory", f"{memory['MemAvailable'] >> 10:,} of {memory['MemTotal'] >> 10:,} MiB are available"
        )
    swapped = memory.get("SwapTotal", 0) - memory.get("SwapFree", 0)
    if swapped > memory.get("MemTotal", 0) // 100:
        yield Trouble("trap", "swap", f"{swapped >> 10:,} MiB of memory lie on the disk")
    try:
        about = os.statvfs(root / "dev/shm")
        size = about.f_blocks * about.f_frsize
        if size < _SHARED_MEMORY:
            yield Trouble(
                "trap", "/dev/shm", f"has {size >> 20:,} MiB; NCCL and loaders want 1,024 (docker: --shm-size=1g)"
            )
    except OSError:
        pass
    wanted = (os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0) if load is None else load
    if wanted > max(1.0, 0.5 * may):
        yield Trouble(
            "busy",
            "load",
            f"{wanted:.1f} processes wanted to run in the last minute, on {may:g} cores: see what they are",
        )


def _memory(path: Path) -> dict[str, int]:
    """The values of a `meminfo` file in KiB, by name."""
    try:
        lines = _text(path).splitlines()
    except OSError:
        return {}
    fields = (line.replace(":", " ").split() for line in lines)
    return {field[0]: int(field[1]) for field in fields if len(field) > 1 and field[1].isdigit()}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()
