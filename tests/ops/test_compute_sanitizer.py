"""Every CUDA and Triton kernel on small inputs under NVIDIA's compute-sanitizer.

Memory comes straight from CUDA, or a read past a tensor would still be inside of the allocator's pool. The tools for
races and for memory that was never written watch the ops without matrix products alone: they do not follow all of what
cuBLAS and kernels with asynchronous copies do. A memcheck of 2023 may take a wgmma for an overrun of shared memory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import sanitized

from golf_fast.ops import registry
from golf_fast.ops.bitpack import native

NAME = "compute-sanitizer"
FOUND_SOMETHING = 86
OPS = registry.op_folders()
WITHOUT_PRODUCTS = ["bitpack", "exclusive_gate", "qk_norm_rope", "residual_mix", "update"]
WATCHED = {"memcheck": OPS, "racecheck": WITHOUT_PRODUCTS, "initcheck": WITHOUT_PRODUCTS}


def find_sanitizer() -> Path | None:
    """The tool: on the PATH, in CUDA_HOME, beside nvcc, or where toolkits are installed."""
    nvcc = shutil.which("nvcc")
    folders = [Path(home) / "bin" for name in ("CUDA_HOME", "CUDA_PATH") if (home := os.environ.get(name))]
    folders += [Path(nvcc).resolve().parent] if nvcc else []
    folders.append(Path("/usr/local/cuda/bin"))
    found = shutil.which(NAME) or shutil.which(NAME, path=os.pathsep.join(map(str, folders)))
    return Path(found) if found else None


def run(device: str, names: list[str], prefix: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [*prefix, sys.executable, str(Path(sanitized.__file__)), device, *names]
    return subprocess.run(command, env=environment | changes, capture_output=True, text=True, check=False)


def watched(tool: str, names: list[str]) -> subprocess.CompletedProcess[str]:
    """The calls on the GPU under one of the tools; skips where there is none."""
    sanitizer = find_sanitizer()
    if sanitizer is None:
        pytest.skip(f"{NAME} is neither on the PATH nor in a CUDA toolkit")
    prefix = [str(sanitizer), "--tool", tool, f"--error-exitcode={FOUND_SOMETHING}"]
    return run("cuda", names, prefix, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def kernels_ran(names: list[str], said: str) -> bool:
    """Whether every op says that it ran by its kernels."""
    lines = dict(re.findall(r"^(\w+): (.+) launches$", said, re.MULTILINE))
    return [*lines] == names and all(
        line == "native, 0" if sanitized.kernels_of(op) == "native" else re.fullmatch(r"triton, [1-9]\d*", line)
        for op, line in lines.items()
    )


@pytest.mark.gpu
@pytest.mark.parametrize("tool", WATCHED)
def test_kernels_on_a_gpu(tool: str) -> None:
    names = sanitized.watchable(WATCHED[tool], "cuda")
    done = watched(tool, names)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert kernels_ran(names, done.stdout)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("tool", "fault", "words"),
    [
        ("memcheck", "overrun", "Invalid __global__ read"),
        ("initcheck", "uninitialized", "Uninitialized __global__ memory read"),
    ],
)
def test_planted_faults_are_seen_on_a_gpu(tool: str, fault: str, words: str) -> None:
    done = watched(tool, [fault])
    assert done.returncode == FOUND_SOMETHING, done.stdout[-4000:] + done.stderr[-4000:]
    assert words in done.stdout


@pytest.mark.interpreter
def test_what_is_watched_runs_interpreted() -> None:
    names = sanitized.watchable(OPS, "cpu")
    done = run("cpu", names, [], TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    assert kernels_ran(names, done.stdout)


def test_what_has_no_kernels_for_a_gpu_is_not_watched_there() -> None:
    names = sanitized.watchable(OPS, "cuda")
    assert {"window_attention", "exclusive_gate", "update"} <= set(names)
    assert not {"lane_mix", "gated_smear", "rms_norm"} & set(names)
    assert ("bitpack" in names) == (native.obstacle("cuda") is None)


@pytest.mark.parametrize("where", ["PATH", "CUDA_HOME", "beside nvcc"])
def test_the_tool_is_found(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit = tmp_path / "cuda" / "bin"
    toolkit.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for name in (NAME, "nvcc"):
        (toolkit / name).touch(mode=0o755)
    (tmp_path / "bin" / "nvcc").symlink_to(toolkit / "nvcc")
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", {"PATH": str(toolkit), "beside nvcc": str(tmp_path / "bin")}.get(where, os.devnull))
    if where == "CUDA_HOME":
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert find_sanitizer() == toolkit / NAME


def test_without_the_tool_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name, path=os.devnull: real(name, path=path.replace("/usr/local", "")))
    assert find_sanitizer() is None
    with pytest.raises(pytest.skip.Exception, match="neither on the PATH nor in a CUDA toolkit"):
        watched("memcheck", ["overrun"])
