"""Every Triton kernel with every configuration compiles for sm_90 and sm_80 and keeps the limits of the hardware."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from helpers import cached_cxx, compile_gate, planted

from golf_fast.ops import registry

BUILDS = {compile_gate.key(op, build): build for op, build in compile_gate.all_builds()}
PLANTED = {compile_gate.key(compile_gate.PLANTED, build): build for build in planted.builds()}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, compile_gate.Measured]:
    """All compilations, made by one other process: this one interprets. Those of the same sources are kept."""
    kept = cached_cxx.cache() / f"{compile_gate.sources()}.json"
    if kept.exists():
        return measurements(kept)
    path = tmp_path_factory.mktemp("compile_gate") / "measured.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(compile_gate.__file__)), str(path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    cached_cxx.keep(path, kept)
    return measurements(path)


def measurements(path: Path) -> dict[str, compile_gate.Measured]:
    return {key: compile_gate.Measured(**values) for key, values in json.loads(path.read_text()).items()}


@pytest.mark.parametrize("name", BUILDS)
def test_build_keeps_the_limits(name: str, measured: dict[str, compile_gate.Measured]) -> None:
    assert compile_gate.violations(BUILDS[name], measured[name]) == []


@pytest.mark.parametrize("name", PLANTED)
def test_gate_sees_planted_violations(name: str, measured: dict[str, compile_gate.Measured]) -> None:
    found = compile_gate.violations(PLANTED[name], measured[name])
    expected = {
        "sound": [],
        "spills": ["spill to the stack"],
        "too much shared memory": ["shared memory"],
        "no tensor cores": ["in the PTX"],
        "no TMA": ["in the PTX"],
        "too few programs": ["programs, and 2 are planned"],
    }[PLANTED[name].label]
    assert len(found) == len(expected), found
    assert all(part in text for part, text in zip(expected, found, strict=True))


def test_every_kernel_is_built_for_both_architectures() -> None:
    """A kernel is a jitted function of an op's triton*.py whose name ends in _kernel; the others are its helpers."""
    for op in registry.op_folders():
        files = sorted((Path(registry.__file__).parent / op).glob("triton*.py"))
        modules = [importlib.import_module(f"golf_fast.ops.{op}.{file.stem}") for file in files]
        kernels = {
            name
            for module in modules
            for name, value in vars(module).items()
            if name.endswith("_kernel") and hasattr(value, "fn")
        }
        if not kernels:
            continue
        assert op in registry.load(), f"{op} has kernels and no cases.py"
        builds = registry.load()[op].builds()
        for arch in (80, 90):
            built = {build.launch.kernel.fn.__name__ for build in builds if build.arch == arch}
            assert kernels <= built, f"{op}: {kernels - built} not compiled for sm_{arch}"


def test_labels_are_unique() -> None:
    assert len(BUILDS) == len(compile_gate.all_builds())
