"""Chooses the device and the compute dtype of a run by what the machine has, never by timing; and facts about the
machine for results."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import resource
import sys

import torch

import golf_fast
from golf_fast.errors import InputError


def choose_device(wanted: str) -> tuple[torch.device, str]:
    """The device for "auto", "cpu" or "cuda", and the reason. For a CPU it also calls `keep_freed_memory`.

    Raises:
        InputError: a GPU is requested and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise InputError("device is cuda: torch sees no GPU here; use --device cpu or auto")
    if has_gpu and wanted != "cpu":
        return torch.device("cuda", torch.cuda.current_device()), torch.cuda.get_device_name()
    keep_freed_memory()
    if wanted == "cpu":
        return torch.device("cpu"), "asked for"
    return torch.device("cpu"), f"torch sees no GPU; {torch.get_num_threads()} threads"


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 32 MiB for later tensors; returns whether it does.

    By default it returns large blocks to the system, which then clears every page of the next one: a fifth of a
    training step of the recipe `tiny`. Peak memory does not change. It is not done if the environment configures
    malloc, nor with another C library.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h: below the first, which can be no more, a block is part of the
    # heap, and below the second the heap's free end stays.
    return mallopt is not None and bool(mallopt(-3, 1 << 25)) and bool(mallopt(-1, 2**31 - 1))


def cpu_bf16_instructions() -> str | None:
    """The instruction set that multiplies bf16 on this CPU, or None."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    for name, attribute in (
        ("AMX", "_is_amx_tile_supported"),
        ("AVX512_BF16", "_is_avx512_bf16_supported"),
        ("ARM_BF16", "_is_arm_bf16_supported"),
    ):
        probe = getattr(torch.cpu, attribute, None)
        if probe is not None and probe():
            return f"{name} ({capabilities})"
    return None


def choose_compute_dtype(wanted: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype of activations for "auto", "bfloat16" or "float32", and the reason."""
    if wanted != "auto":
        return getattr(torch, wanted), "asked for"
    if device.type == "cuda":
        return torch.bfloat16, "a GPU"
    instructions = cpu_bf16_instructions()
    if instructions:
        return torch.bfloat16, f"the CPU has {instructions}"
    return torch.float32, "the CPU has no bf16 instructions"


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def device_name(device: torch.device) -> str:
    """The name that the device reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory of this process in bytes: on the GPU if it uses one, else in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def versions() -> dict[str, str]:
    """Versions of the software that a result depends on."""
    found = {"golf_fast": golf_fast.__version__, "python": platform.python_version(), "torch": torch.__version__}
    for package in ("triton", "numpy", "sentencepiece", "zstandard"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found
