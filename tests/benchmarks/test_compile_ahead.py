"""What is compiled ahead is what runs: nothing is compiled a second time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compile_ahead
from golf_fast.errors import InputError

ROOT = Path(__file__).parents[2]
ON_REAL_TENSORS = """
import torch, triton
from golf_fast.ops import registry
from golf_fast.ops.absent_gpu import AbsentGpu

triton.runtime.driver.set_active(AbsentGpu(90))
for build in registry.load()["softcap_cross_entropy"].builds():
    if build.arch == 90 and build.launch.arguments["COLUMNS"] == 1024:
        for name, value in build.launch.arguments.items():
            if isinstance(value, torch.Tensor):  # a tensor with an address, not one of the meta device
                build.launch.arguments[name] = torch.empty(value.shape, dtype=value.dtype)
        build.launch.compile()
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_what_is_compiled_ahead_is_found(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kernels() -> set[Path]:
        return set(tmp_path.rglob("*.cubin"))

    said = run("-m", "benchmarks", "compile", "--arch", "90", "--op", "softcap_cross_entropy", "--jobs", "2")
    made = kernels()
    assert said.startswith("compiled for sm_90 in ")
    assert len(made) == 8
    run("-c", ON_REAL_TENSORS)
    assert kernels() == made


def test_without_a_gpu_the_target_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "")
    monkeypatch.setattr(compile_ahead, "triton_obstacle", lambda kind: "there is no GPU that torch can use")
    with pytest.raises(InputError, match="no GPU that torch can use; --arch 90 compiles for a GPU that is not here"):
        compile_ahead.main([])
    with pytest.raises(InputError, match="--jobs is 0"):
        compile_ahead.main(["--jobs", "0"])
