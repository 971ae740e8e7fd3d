"""How the extension's build finds its compilers, and what it says where they are not what they seem."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

# Of a toolkit that a distribution spread over /usr.
DRY_RUN = """
#$ _HERE_=/usr/lib/nvidia-cuda-toolkit/bin
#$ TOP=/usr/lib/nvidia-cuda-toolkit/bin/..
#$ INCLUDES="-I/usr/include" "-I/usr/with space"
#$ SYSTEM_INCLUDES="-isystem" "/usr/include/cccl"
#$ LIBRARIES=  "-L/usr/lib/x86_64-linux-gnu"
#$ nvlink -m64 "-L/usr/lib/x86_64-linux-gnu" -lcudadevrt -o "x"
#$ g++ -m64 "a.o" -shared "-L/usr/lib/x86_64-linux-gnu" -lcudadevrt -lcudart_static -lrt -lpthread -ldl -o "x.so"
"""
REFUSES = "host_config.h:132:2: error: #error -- unsupported GNU version! gcc versions later than 12 are not supported!"


@pytest.fixture(autouse=True)
def forgotten(setup_py: ModuleType) -> Iterator[None]:
    setup_py.cxx.cache_clear()
    yield
    setup_py.cxx.cache_clear()


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on the PATH")
def test_a_c_compiler_is_none_for_cpp(setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "gcc")
    with pytest.raises(SystemExit, match=r"^CXX is gcc: it makes no C\+\+ program \(.*undefined reference"):
        setup_py.cxx()


def test_a_compiler_that_is_not_there_is_an_error_where_it_is_asked_for(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "clang++-99 -flag")
    with pytest.raises(SystemExit, match=r"^CXX is clang\+\+-99 -flag: it makes no C\+\+ program \(not found\)"):
        setup_py.cxx()


@pytest.mark.parametrize("named", ["gcc", "nowhere++", ""])
def test_what_the_interpreter_names_is_passed_over_if_it_is_none(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: named if name == "CXX" else None)
    assert setup_py.cxx()[0] in ("c++", "g++", "clang++")


def test_nothing_at_all_says_what_was_tried(setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(
        SystemExit, match=r"needs a C\+\+ compiler and found none \(.*c\+\+: not found; .*clang\+\+: not found"
    ):
        setup_py.cxx()


def test_libraries_are_those_that_nvcc_names(setup_py: ModuleType, tmp_path: Path) -> None:
    nvcc = program(tmp_path / "nvcc", f"echo {shlex.quote(DRY_RUN)} >&2")
    includes, libraries = setup_py.what_nvcc_uses(nvcc)
    assert includes == ("-isystem", "/usr/include", "-isystem", "/usr/with space", "-isystem", "/usr/include/cccl")
    folder = "-L/usr/lib/x86_64-linux-gnu"
    assert libraries == (folder, "-lcudadevrt", "-lcudart_static", "-lrt", "-lpthread", "-ldl")
    assert setup_py.nvcc_home(nvcc) == (nvcc, "unknown"), "the home that it names is not there"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            f"echo {shlex.quote(REFUSES)} >&2; exit 1",
            r"compiles nothing \(host_config\.h:132:2: error: #error -- unsupported",
        ),
        ("kill -9 $$", r"compiles nothing \(no message\)"),
        ('while [ "$1" ]; do [ "$1" = -o ] && : > "$2"; shift; done', r"what .*nvcc makes cannot be linked \("),
    ],
)
def test_cuda_is_left_out_with_the_reason(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, says: str
) -> None:
    program(tmp_path / "bin" / "nvcc", script)
    for name in ("GOLF_FAST_CUDA", "GOLF_FAST_CUDA_ARCHS", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    cuda, reason = setup_py.find_cuda()
    assert cuda is None
    assert re.search(rf"^no CUDA: .*{says}", reason), reason


def test_the_reason_is_kept_in_the_extension(setup_py: ModuleType, tmp_path: Path) -> None:
    text = setup_py.ninja_file(tmp_path / "_C.so", tmp_path, None, 'no CUDA: "quoted" $HOME \\ \u00e9')
    assert "GOLF_CUDA_NOTE=\"no CUDA: '\"'\"'quoted" in text
    assert "$$HOME" in text
    assert "\u00e9" not in text


@pytest.mark.parametrize(
    ("content", "says"), [(b"no library", "invalid ELF header|file too short|not"), (b"", "short|not")]
)
def test_what_cannot_be_imported_is_not_installed(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, says: str
) -> None:
    for name in ("ARCHFLAGS", "_PYTHON_HOST_PLATFORM", "CXX"):
        monkeypatch.delenv(name, raising=False)
    built = tmp_path / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    built.write_bytes(content)
    with pytest.raises(
        SystemExit, match=rf"golf_fast\._C: .* built it, and it cannot be imported \(ImportError: .*({says})"
    ):
        setup_py.require_importable(built)
    assert not built.exists()


def test_a_folder_that_nothing_may_be_started_from_is_named(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ninja = pytest.importorskip("ninja")
    (tmp_path / "ninja").write_text("as on a file system that is mounted noexec")
    monkeypatch.setattr(ninja, "BIN_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(SystemExit, match=r"ninja cannot be started \(.*ninja: Permission denied\); set TMPDIR"):
        setup_py.ninja()
    other = program(tmp_path / "path" / "ninja", "echo 1.11")
    monkeypatch.setenv("PATH", f"{other.parent}:/bin")
    assert setup_py.ninja() == str(other)
