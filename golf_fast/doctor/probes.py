"""Finds out what this machine has, what a run will use of it, and why.

Each finding is determined independently, so that a part that is missing or broken does not hide the others.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from golf_fast import recipes
from golf_fast.config import DataConfig

_PACKAGES = (
    "torch", "triton", "numpy", "safetensors", "msgspec", "sentencepiece", "zstandard", "tyro", "rich", "matplotlib",
)  # fmt: skip
_REMEDY = "pip install -r requirements.txt -e ."


class Finding(NamedTuple):
    """A property of the machine: its name, its value, and the consequence or the reason."""

    what: str
    found: str
    why: str = ""


def examine() -> list[Finding]:
    """All findings; a missing part does not raise an error."""
    findings: list[Finding] = []
    for what, probe in PROBES.items():
        try:
            findings += probe()
        except Exception as error:  # noqa: BLE001  # whatever a broken installation throws is to be seen
            message = " ".join(str(error).split())
            findings.append(Finding(what, "cannot be told", f"{type(error).__name__}: {message}"))
    return findings


def _python() -> Iterator[Finding]:
    yield Finding("python", platform.python_version(), f"{platform.system()} {platform.machine()}")


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            why = "the kernels written in it are left out" if name == "triton" else _REMEDY
            yield Finding(name, "not installed", why)


def _cpu() -> Iterator[Finding]:
    import torch

    from golf_fast import machine

    threads = f"{os.cpu_count()} logical cores, torch uses {torch.get_num_threads()} threads"
    yield Finding("cpu", cpu_name(), threads)
    bf16 = machine.cpu_bf16_instructions()
    yield Finding("instructions", torch.backends.cpu.get_cpu_capability(), f"bf16: {bf16 or 'none'}")


def cpu_name() -> str:
    """The name that the CPU reports."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpus() -> Iterator[Finding]:
    import torch

    built_for = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
    if not torch.cuda.is_available():
        yield Finding("gpu", "none", built_for)
        return
    for index in range(torch.cuda.device_count()):
        had = torch.cuda.get_device_properties(index)
        yield Finding(
            f"gpu {index}", had.name, f"sm_{had.major}{had.minor}, {had.total_memory >> 20:,} MiB, {built_for}"
        )


def _choices() -> Iterator[Finding]:
    from golf_fast import machine

    device, reason = machine.choose_device("auto")
    yield Finding("device", str(device), reason)
    dtype, reason = machine.choose_compute_dtype("auto", device)
    yield Finding("compute dtype", str(dtype).removeprefix("torch."), reason)
    name, reason = recipes.choose(device.type == "cuda")
    yield Finding("recipe", name, f"where none is named: {reason}")


def _extension() -> Iterator[Finding]:
    try:
        extension = importlib.import_module("golf_fast._C")
    except ImportError as error:
        yield Finding("golf_fast._C", "not there", f"{error}; {_REMEDY}")
        return
    built = extension.build_info()
    yield Finding("golf_fast._C", f"built by {built['compiler']}", built.get("cuda_note", ""))


def _ops() -> Iterator[Finding]:
    import golf_fast.ops
    from golf_fast import machine
    from golf_fast.ops import backends

    importlib.import_module("golf_fast.compress")  # registers what codes and quantizes

    for module in pkgutil.iter_modules(golf_fast.ops.__path__):
        if module.ispkg:
            importlib.import_module(f"golf_fast.ops.{module.name}")
    device, _ = machine.choose_device("auto")
    for op in backends.registered():
        try:
            backend = backends.resolve(op, device)
        except ValueError as error:
            yield Finding(f"op {op}", "cannot run", str(error))
        else:
            yield Finding(f"op {op}", backend.name, backend.reason)


def _data() -> Iterator[Finding]:
    from golf_fast.data import shards

    config = DataConfig()
    if not config.shards.is_dir():
        yield Finding("shards", "none", f"no folder {config.shards}; `python -m golf_fast.data fetch` gets them")
    else:
        for part in ("train", "val"):
            paths = shards.visible(config.shards, f"*_{part}_*.bin")
            tokens = sum(shards.shard_tokens(path) for path in paths)
            yield Finding(f"{part} shards", str(len(paths)), f"{tokens:,} tokens in {config.shards}")
    there = "there" if config.tokenizer.is_file() else "none"
    yield Finding("tokenizer", there, f"{config.tokenizer}, for the shards")
    built = sorted(path.parent.name for path in config.built.glob("*/manifest.json"))
    yield Finding("built from text", str(len(built)), ", ".join(built) or f"nothing in {config.built} yet")


PROBES: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "packages": _packages,
    "cpu": _cpu,
    "gpu": _gpus,
    "choices": _choices,
    "golf_fast._C": _extension,
    "ops": _ops,
    "data": _data,
}
