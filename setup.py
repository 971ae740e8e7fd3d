"""Builds the extension golf_fast._C from csrc/ with ninja: C++ always, CUDA where nvcc is found. torch is not needed.

Every *.cpp and *.cu under csrc/ is compiled. Environment variables:
    CXX                     the C++ compiler; default: the one that Python was built with, else c++
    GOLF_FAST_CUDA          0 leaves CUDA out
    GOLF_FAST_CUDA_ARCHS    what to compile for, separated by commas; default: 80,90a,100,ptx, less what nvcc refuses
    CUDA_HOME               where bin/nvcc is, if it is not on the PATH
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SOURCES = Path("csrc")
CUDA_ARCHS = ("80", "90a", "100", "ptx")
PTX_ARCHS = ("100", "90", "80")
"""What PTX is made for, best first: a later GPU compiles it when it is first used."""
CXX_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
NVCC_FLAGS = ["-std=c++17", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden", "--threads=4"]


@dataclass(frozen=True)
class Cuda:
    """The CUDA compiler and what it compiles for."""

    nvcc: Path
    version: str
    archs: tuple[str, ...]
    gencode: tuple[str, ...]

    @property
    def library(self) -> Path:
        """libcudart_static.a."""
        home = self.nvcc.parent.parent
        folders = [home / "lib64", home / "lib", *sorted(home.glob("targets/*/lib"))]
        return next(path for folder in folders if (path := folder / "libcudart_static.a").exists())


def find_nvcc() -> Path | None:
    for home in filter(None, (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"))):
        if (nvcc := Path(home) / "bin" / "nvcc").exists():
            return nvcc
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    return Path(found) if found else None


def gencode(arch: str) -> str:
    """The nvcc option for an entry of CUDA_ARCHS, or for ptx:NN."""
    kind, _, number = arch.rpartition(":")
    return f"-gencode=arch=compute_{number},code={'compute' if kind == 'ptx' else 'sm'}_{number}"


def compiles(nvcc: Path, arch: str) -> str | None:
    """None if nvcc compiles an empty file for `arch`, else the last line of what it says."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.cu")
        empty.touch()
        command = [nvcc, *NVCC_FLAGS, gencode(arch), "-c", empty, "-o", empty.with_suffix(".o")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if result.returncode == 0 else (result.stderr.strip().splitlines() or ["no message"])[-1]


def nvcc_home(nvcc: Path) -> tuple[Path, str]:
    """The real nvcc behind a link or a wrapper script, and the release of its toolkit."""
    dry = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True, check=False)
    top = re.search(r"^#\$ TOP=(.+)$", dry.stderr, re.MULTILINE)
    here = re.search(r"^#\$ _HERE_=(.+)$", dry.stderr, re.MULTILINE)
    if top and here:
        nvcc = Path(here[1], top[1], "bin", "nvcc").resolve()
    about = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release ([\d.]+)", about)
    return nvcc, release[1] if release else "unknown"


def find_cuda() -> tuple[Cuda | None, str]:
    """The CUDA compiler, or None, and in a few words what was found.

    Raises:
        SystemExit: GOLF_FAST_CUDA_ARCHS names something that nvcc does not compile for.
    """
    if os.environ.get("GOLF_FAST_CUDA") == "0":
        return None, "no CUDA: GOLF_FAST_CUDA=0"
    found = find_nvcc()
    if found is None:
        return None, "no CUDA: nvcc is neither on the PATH nor in CUDA_HOME"
    nvcc, version = nvcc_home(found)
    asked = [arch for arch in re.split(r"[,; ]+", os.environ.get("GOLF_FAST_CUDA_ARCHS", "")) if arch]
    wanted = asked or list(CUDA_ARCHS)
    ptx = [f"ptx:{number}" for number in PTX_ARCHS if "ptx" in wanted]
    trials = [arch for arch in wanted if arch != "ptx"] + ptx[:1]
    with ThreadPoolExecutor() as pool:
        failures = dict(zip(trials, pool.map(lambda arch: compiles(nvcc, arch), trials), strict=True))
    archs = [arch for arch in trials if failures[arch] is None]
    refused = [arch for arch in trials if arch not in archs and arch not in ptx]
    if asked and refused:
        sys.exit(f"GOLF_FAST_CUDA_ARCHS: {nvcc} does not compile for {refused[0]} ({failures[refused[0]]})")
    if ptx and ptx[0] not in archs:
        archs += [arch for arch in ptx[1:] if compiles(nvcc, arch) is None][:1]
    if not archs:
        return None, f"no CUDA: {nvcc} compiles nothing ({failures[trials[0]]})"
    skipped = f", which refused {' '.join(refused)}" if refused else ""
    said = f"CUDA {version} for {' '.join(archs)}{skipped}"
    return Cuda(nvcc, version, tuple(archs), tuple(gencode(arch) for arch in archs)), said


def cxx() -> list[str]:
    """The C++ compiler as a command."""
    for command in (os.environ.get("CXX"), sysconfig.get_config_var("CXX"), "c++", "g++", "clang++"):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    sys.exit("golf_fast needs a C++ compiler: none of c++, g++, clang++ is on the PATH, and CXX names none")


def ninja() -> str:
    try:
        from ninja import BIN_DIR
    except ImportError:
        return shutil.which("ninja") or sys.exit("golf_fast is built with ninja: pip install ninja")
    return str(Path(BIN_DIR) / "ninja")


def linking() -> list[str]:
    """Options that make a Python extension, whose Python symbols the interpreter supplies."""
    if sys.platform == "darwin":
        return ["-bundle", "-undefined", "dynamic_lookup", *shlex.split(os.environ.get("ARCHFLAGS", ""))]
    return ["-shared", "-Wl,--exclude-libs,ALL", "-Wl,--as-needed"]


def escape(value: object) -> str:
    """A value as part of a path in a build.ninja."""
    return re.sub(r"([$: ])", r"$\1", str(value))


def command_line(words: list[object]) -> str:
    return shlex.join(map(str, words)).replace("$", "$$")


def ninja_file(output: Path, objects: Path, cuda: Cuda | None) -> str:
    """The text of a build.ninja that makes `output` from csrc/."""
    import pybind11

    version = subprocess.run([*cxx(), "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    defines = [f'-DGOLF_COMPILER="{version}"']
    includes = ["-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include")]
    libraries: list[object] = []
    if cuda:
        defines += [f'-DGOLF_CUDA="{cuda.version}"', f'-DGOLF_CUDA_ARCHS="{",".join(cuda.archs)}"']
        includes += ["-isystem", cuda.nvcc.parent.parent / "include"]
        libraries = [cuda.library, "-ldl", "-lrt", "-lpthread"]
    compile_cxx: list[object] = [*cxx(), *CXX_FLAGS, *defines, *includes]
    if sys.platform == "darwin":
        compile_cxx += shlex.split(os.environ.get("ARCHFLAGS", ""))
    link = command_line([*cxx(), *linking()])
    lines = [
        "ninja_required_version = 1.5",
        f"rule cxx\n  command = {command_line(compile_cxx)} $more -MMD -MF $out.d -c $in -o $out",
        "  deps = gcc\n  depfile = $out.d\n  description = C++ $in",
        f"rule link\n  command = {link} -o $out $in {command_line(libraries)}\n  description = link $out",
    ]
    if cuda:
        compile_cu = command_line([cuda.nvcc, *NVCC_FLAGS, *cuda.gencode])
        lines.append(f"rule cuda\n  command = {compile_cu} -MMD -MF $out.d -c $in -o $out")
        lines.append("  deps = gcc\n  depfile = $out.d\n  description = CUDA $in")
    made = []
    # The CUDA files first: they take longest.
    for suffix, rule in ((".cu", "cuda" if cuda else None), (".cpp", "cxx")):
        for source in sorted(SOURCES.rglob(f"*{suffix}")) if rule else []:
            made.append(escape(objects / source.with_name(source.name + ".o")))
            lines.append(f"build {made[-1]}: {rule} {escape(ROOT / source)}")
            if source.name == "bindings.cpp":
                lines.append("  more = -O1")  # glue: what it calls is elsewhere, and optimizing it takes half its time
    lines.append(f"build {escape(output)}: link {' '.join(made)}")
    return "\n".join(lines) + "\n"


class NinjaBuild(build_ext):
    """Compiles everything under csrc/ into the one extension."""

    def build_extension(self, ext: Extension) -> None:
        cuda, found = find_cuda()
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        (folder / "build.ninja").write_text(ninja_file(output, folder, cuda))
        if subprocess.run([ninja(), "-C", str(folder)], check=False).returncode:
            sys.exit("golf_fast._C: the compiler's message is above; GOLF_FAST_CUDA=0 builds without CUDA")
        print(f"golf_fast._C: C++ for {platform.machine()}, {found}", flush=True)


if __name__ == "__main__":
    os.chdir(ROOT)
    setup(ext_modules=[Extension("golf_fast._C", [])], cmdclass={"build_ext": NinjaBuild})
