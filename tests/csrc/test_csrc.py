"""The C++ and CUDA sources on their own: sanitizers, warnings, spills. Nothing here needs a GPU or the extension."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from helpers.cached_cxx import cached

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"
ARCHS = ("80", "90a", "100")
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]

SPILLS = """
__global__ void __launch_bounds__(1024) planted(float* data) {
    float kept[128];
#pragma unroll
    for (int i = 0; i < 128; i++) kept[i] = data[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 128; i++) data[i * 1024 + threadIdx.x] = kept[127 - i] * kept[i];
}
"""
WARNS = "__global__ void planted(float* data) { int unused = 3; data[0] = 1.0f; }\n"


@pytest.fixture(scope="session")
def cases_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bitpack cases as a program with sanitizers; a step for each source, two at a time."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on the PATH")
    folder = tmp_path_factory.mktemp("cases")
    flags = ["-std=c++20", *SANITIZE, "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-pthread"]
    sources = [HERE / "bitpack_cases.cpp", *(path for path in sorted(CSRC.glob("bitpack/*.c*")))]
    sources = [path for path in sources if path.name != "bindings.cpp"]
    running = []
    for source in sources:
        command = cached(compiler, *flags)
        if source.suffix == ".cu":  # as C++, with the emulated CUDA of this folder; -x holds for what follows
            command += ["-fno-strict-aliasing", "-Wno-unknown-pragmas", f"-I{HERE / 'emulated'}", "-x", "c++"]
        command += ["-c", str(source), "-o", str(folder / f"{source.stem}.o")]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    for source, process in zip(sources, running, strict=True):
        _, said = process.communicate()
        if "cannot find -lasan" in said or "sanitizer" in said.splitlines()[:1]:
            pytest.skip("g++ has no sanitizers here")
        assert process.returncode == 0, f"{source.name}: {said}"
    program = folder / "cases"
    link = [compiler, *SANITIZE, "-pthread", *(str(folder / f"{source.stem}.o") for source in sources)]
    linked = subprocess.run([*link, "-o", str(program)], capture_output=True, text=True, check=False)
    if "asan" in linked.stderr:
        pytest.skip(f"g++ has no sanitizers here: {linked.stderr.splitlines()[0]}")
    assert linked.returncode == 0, linked.stderr
    return program


def test_bitpack_cases_under_sanitizers(cases_program: Path) -> None:
    result = subprocess.run([cases_program], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    names = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert names[0] == "portable"
    assert names[-1] == "cuda, emulated"


def test_sanitizers_would_say_so(cases_program: Path) -> None:
    result = subprocess.run([cases_program, "plant"], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr


def compile_cuda(setup_py: ModuleType, source: Path, arch: str, folder: Path) -> tuple[str, list[str]]:
    """What is wrong with a CUDA file for an architecture: the compiler's complaint, and lines about spills."""
    nvcc = setup_py.find_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc on the PATH or in CUDA_HOME")
    nvcc, version = setup_py.nvcc_home(nvcc)
    if refused := setup_py.compiles(nvcc, arch):
        pytest.skip(f"nvcc {version} does not compile for sm_{arch}: {refused}")
    strict = ["-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror", "-Xptxas=-v"]
    command = [nvcc, *setup_py.NVCC_FLAGS, *strict, setup_py.gencode(arch), "-c", source, "-o", folder / "out.o"]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if result.returncode:
        return result.stdout + result.stderr, []
    used = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", result.stderr)
    assert used, f"no word on registers from ptxas: {result.stderr}"
    return "", [f"stack {a}, spill stores {b}, spill loads {c}" for a, b, c in used if (a, b, c) != ("0", "0", "0")]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("source", sorted(CSRC.rglob("*.cu")), ids=lambda path: str(path.relative_to(CSRC)))
def test_cuda_compiles_without_warnings_or_spills(
    setup_py: ModuleType, source: Path, arch: str, tmp_path: Path
) -> None:
    complaint, spills = compile_cuda(setup_py, source, arch, tmp_path)
    assert not complaint
    assert not spills


def test_gate_sees_a_spill_and_a_warning(setup_py: ModuleType, tmp_path: Path) -> None:
    for text, file in ((SPILLS, "spills.cu"), (WARNS, "warns.cu")):
        (tmp_path / file).write_text(text)
    complaint, spills = compile_cuda(setup_py, tmp_path / "spills.cu", "90a", tmp_path)
    assert not complaint
    assert spills
    complaint, _ = compile_cuda(setup_py, tmp_path / "warns.cu", "90a", tmp_path)
    assert "unused" in complaint


def test_x86_paths_are_left_out_elsewhere() -> None:
    """As on arm64 and macOS, where the portable path alone is built."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on the PATH")
    families = {"bitpack": ("bitpack.cpp",), "activations": ("activations.cpp", "threads.cpp")}
    for family, others in families.items():
        for source in ("avx2.cpp", "avx512.cpp", "portable.cpp", *others):
            command = [compiler, "-std=c++17", "-DGOLF_PORTABLE_ONLY", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
            result = subprocess.run([*command, CSRC / family / source], capture_output=True, text=True, check=False)
            assert result.returncode == 0, f"{family}/{source}: {result.stderr}"


def test_build_info_says_what_was_built() -> None:
    module = pytest.importorskip("golf_fast._C", reason="golf_fast._C is not built")
    info = module.build_info()
    assert info["compiler"]
    assert (info["cuda"] is None) == (info["cuda_archs"] == [])
    assert hasattr(module, "bitpack_unpack_cuda") == (info["cuda"] is not None)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GOLF_FAST_CUDA": "0"}, "no CUDA: GOLF_FAST_CUDA=0"),
        ({"CUDA_HOME": "", "CUDA_PATH": "", "PATH": os.devnull}, "no CUDA: nvcc is neither"),
    ],
)
def test_building_without_cuda_gives_the_reason(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "PATH" in environment and Path("/usr/local/cuda/bin/nvcc").exists():
        monkeypatch.setattr(setup_py.shutil, "which", lambda name, path=None: None)
    cuda, reason = setup_py.find_cuda()
    assert cuda is None
    assert reason.startswith(said)


def test_narrowing_to_an_impossible_architecture_is_an_error(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setup_py.find_nvcc() is None:
        pytest.skip("no nvcc on the PATH or in CUDA_HOME")
    monkeypatch.delenv("GOLF_FAST_CUDA", raising=False)
    monkeypatch.setenv("GOLF_FAST_CUDA_ARCHS", "13")
    with pytest.raises(SystemExit, match="does not compile for 13"):
        setup_py.find_cuda()
