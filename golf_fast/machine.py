"""The device and the number format that a run computes in, chosen by what the machine has and never by timing."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys

import torch

import golf_fast
from golf_fast.errors import InputError


def choose_device(wanted: str) -> tuple[torch.device, str]:
    """The device for "auto", "cpu" or "cuda", and the reason.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise InputError("device is cuda: torch sees no GPU here; use --device cpu or auto")
    if wanted == "cpu":
        return torch.device("cpu"), "asked for"
    if has_gpu:
        return torch.device("cuda", torch.cuda.current_device()), torch.cuda.get_device_name()
    return torch.device("cpu"), f"torch sees no GPU; {torch.get_num_threads()} threads"


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
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process held: on the GPU where it uses one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"golf_fast": golf_fast.__version__, "python": platform.python_version(), "torch": torch.__version__}
    for package in ("triton", "numpy", "sentencepiece", "zstandard"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found
