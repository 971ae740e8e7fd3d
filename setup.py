"""Builds the extension golf_fast._C from csrc/ with ninja: C++ always, CUDA where nvcc is found. torch is not needed.

Every *.cpp and *.cu under csrc/ is compiled, and what comes of it is imported once, in a process of its own. What was
left out, and why, is kept in the extension (`build_info`) and shown by `python -m golf_fast.doctor`.

Environment variables:
    CXX                     the C++ compiler; default: the one that Python was built with, if it links C++, else c++
    GOLF_FAST_CUDA          0 leaves CUDA out
    GOLF_FAST_CUDA_ARCHS    what to compile for, separated by commas; default: 80,90a,100,ptx, less what nvcc refuses
    CUDA_HOME               where bin/nvcc is, if it is not on the PATH
"""

from __future__ import annotations

import contextlib
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
from functools import cache
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
    """The CUDA compiler, what it compiles for, and what it includes and links with by itself."""

    nvcc: Path
    version: str
    archs: tuple[str, ...]
    gencode: tuple[str, ...]
    includes: tuple[str, ...]
    libraries: tuple[str, ...]


def run(command: list[object]) -> tuple[int, str, str]:
    """Exit code, output and errors of a program; one that cannot be started has the code 127."""
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        return 127, "", f"{command[0]}: {error.strerror}"
    return done.returncode, done.stdout, done.stderr


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def first_error(text: str) -> str:
    """The line of a compiler's message that says what is wrong."""
    lines = text.strip().splitlines()
    wrong = [line for line in lines if re.search(r"\berror\b|undefined ", line, re.IGNORECASE)]
    return (wrong or lines or ["no message"])[0].strip()


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
    """None if nvcc compiles an empty file for `arch`, else what it says."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.cu")
        empty.touch()
        code, _, said = run([nvcc, *NVCC_FLAGS, gencode(arch), "-c", empty, "-o", empty.with_suffix(".o")])
    return first_error(said) if code else None


def nvcc_home(nvcc: Path) -> tuple[Path, str]:
    """The real nvcc behind a link or a wrapper script, and the release of its toolkit."""
    _, _, dry = run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull])
    top = re.search(r"^#\$ TOP=(.+)$", dry, re.MULTILINE)
    here = re.search(r"^#\$ _HERE_=(.+)$", dry, re.MULTILINE)
    if top and here:
        real = Path(here[1], top[1], "bin", "nvcc").resolve()
        nvcc = real if real.exists() else nvcc
    release = re.search(r"release ([\d.]+)", run([nvcc, "--version"])[1])
    return nvcc, release[1] if release else "unknown"


def what_nvcc_uses(nvcc: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The include options of nvcc, and the folders and libraries that it links with, as it says itself.

    Toolkits are laid out in many ways; a distribution spreads one over /usr.
    """
    _, _, dry = run([nvcc, "--dryrun", "-x", "cu", os.devnull, "-shared", "-o", "unused.so"])
    said = dict(re.findall(r"^#\$ (\w+)=\s*(.*)$", dry, re.MULTILINE))
    words = shlex.split(f"{said.get('INCLUDES', '')} {said.get('SYSTEM_INCLUDES', '')}")
    folders = [word.removeprefix("-I") for word in words if word not in ("-isystem", "-I")]
    includes = tuple(option for folder in folders for option in ("-isystem", folder))
    links = [line for line in dry.splitlines() if "-lcudart_static" in line]
    libraries = tuple(word for word in shlex.split(links[-1]) if word.startswith(("-L", "-l"))) if links else ()
    return includes, libraries


def links(cuda: Cuda) -> str | None:
    """None if an object of nvcc's becomes a program by our C++ compiler, else what is said."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "calls.cu"), Path(folder, "calls.o")
        source.write_text("#include <cuda_runtime_api.h>\nint main() { return cudaGetLastError(); }\n")
        code, _, said = run([cuda.nvcc, *NVCC_FLAGS, cuda.gencode[0], "-c", source, "-o", made])
        if code == 0:
            code, _, said = run([*cxx(), "-o", made.with_suffix(""), made, *cuda.libraries])
    return first_error(said) if code else None


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
    cuda = Cuda(nvcc, version, tuple(archs), tuple(gencode(arch) for arch in archs), *what_nvcc_uses(nvcc))
    if failure := links(cuda):
        return None, f"no CUDA: what {nvcc} makes cannot be linked ({failure})"
    why = "; ".join(f"{arch}: {failures[arch]}" for arch in refused)
    skipped = f"; {nvcc} refused {' '.join(refused)} ({why})" if refused else ""
    return cuda, f"CUDA {version} for {' '.join(archs)}{skipped}"


@cache
def cxx() -> tuple[str, ...]:
    """The C++ compiler as a command: the first of those that may be meant that makes a C++ program.

    Raises:
        SystemExit: CXX names something that does not, or nothing here does.
    """
    asked = os.environ.get("CXX", "").strip()
    tried = []
    for command in (asked, sysconfig.get_config_var("CXX"), "c++", "g++", "clang++"):
        words = tuple(shlex.split(command or ""))
        if words:
            failure = makes_programs(words)
            if failure is None:
                return words
            if command == asked:
                sys.exit(f"CXX is {asked}: it makes no C++ program ({failure}); name a C++ compiler, or unset CXX")
            tried.append(f"{command}: {failure}")
    sys.exit(f"golf_fast needs a C++ compiler and found none ({'; '.join(tried)}); install one, or name it in CXX")


def makes_programs(compiler: tuple[str, ...]) -> str | None:
    """None if a command compiles and links C++, which a C compiler does not, else why not."""
    if shutil.which(compiler[0]) is None:
        return "not found"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "program.cpp")
        source.write_text('#include <stdexcept>\nint main() { throw std::runtime_error("never run"); }\n')
        code, _, said = run([*compiler, CXX_FLAGS[0], source, "-o", source.with_suffix("")])
    return first_error(said) if code else None


def ninja() -> str:
    """The program ninja: the package's, but where that lies in a folder that nothing may be started from.

    Raises:
        SystemExit: there is none that can be started.
    """
    candidates = [shutil.which("ninja")]
    with contextlib.suppress(ImportError):
        from ninja import BIN_DIR

        candidates.insert(0, str(Path(BIN_DIR) / "ninja"))
    failures = []
    for path in filter(None, candidates):
        code, _, said = run([path, "--version"])
        if code == 0:
            return path
        failures.append(last_line(said))
    if failures:
        sys.exit(f"ninja cannot be started ({'; '.join(failures)}); set TMPDIR to a folder that is not mounted noexec")
    sys.exit("golf_fast is built with ninja: pip install ninja")


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


def in_quotes(text: str) -> str:
    """A text as it can stand in a C string, on a command line."""
    return re.sub(r"[^ -~]|[\"\\\\]", "'", text)[:400]


def ninja_file(output: Path, objects: Path, cuda: Cuda | None, note: str) -> str:
    """The text of a build.ninja that makes `output` from csrc/; `note` says what of CUDA is in it, or why nothing."""
    import pybind11

    version = (run([*cxx(), "--version"])[1].splitlines() or [" ".join(cxx())])[0]
    defines = [f'-DGOLF_COMPILER="{in_quotes(version)}"']
    includes = ["-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include")]
    libraries: list[object] = []
    if cuda:
        defines += [f'-DGOLF_CUDA="{cuda.version}"', f'-DGOLF_CUDA_ARCHS="{",".join(cuda.archs)}"']
        includes += cuda.includes
        libraries = list(cuda.libraries)
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
                # Glue: what it calls is elsewhere, and optimizing it takes half its time.
                define = f'-DGOLF_CUDA_NOTE="{in_quotes(note)}"'
                lines.append(f"  more = {command_line(['-O1', define])}")
    lines.append(f"build {escape(output)}: link {' '.join(made)}")
    return "\n".join(lines) + "\n"


def require_importable(output: Path) -> None:
    """That what was built can be imported, tried in another process: a compiler links much that no program can load.

    Raises:
        SystemExit: it cannot.
    """
    if os.environ.get("_PYTHON_HOST_PLATFORM") or os.environ.get("ARCHFLAGS"):
        return  # made for another machine than this
    load = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('golf_fast._C', sys.argv[1]); "
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); module.build_info()"
    )
    code, _, said = run([sys.executable, "-c", load, output])
    if "failed to map segment" in said:
        print(f"golf_fast._C: not tried, {output.parent} is mounted noexec", flush=True)
    elif code:
        output.unlink(missing_ok=True)
        sys.exit(f"golf_fast._C: {' '.join(cxx())} built it, and it cannot be imported ({last_line(said)})")


class NinjaBuild(build_ext):
    """Compiles everything under csrc/ into the one extension."""

    def build_extension(self, ext: Extension) -> None:
        cuda, found = find_cuda()
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        (folder / "build.ninja").write_text(ninja_file(output, folder, cuda, found))
        if subprocess.run([ninja(), "-C", str(folder)], check=False).returncode:
            sys.exit("golf_fast._C: the compiler's message is above; GOLF_FAST_CUDA=0 builds without CUDA")
        require_importable(output)
        print(f"golf_fast._C: C++ for {platform.machine()}, {found}", flush=True)


if __name__ == "__main__":
    os.chdir(ROOT)
    setup(ext_modules=[Extension("golf_fast._C", [])], cmdclass={"build_ext": NinjaBuild})
