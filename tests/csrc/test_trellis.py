"""The trellis' C++ on its own, under the address, undefined-behaviour and thread sanitizers."""

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.cached_cxx import cached

HERE = Path(__file__).parent
TRELLIS = HERE.parents[1] / "csrc" / "trellis"
FLAGS = ["-std=c++17", "-O1", "-g", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{TRELLIS}"]


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_cases_under_sanitizers(sanitizer: str, tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("neither g++ nor clang++ is on the PATH")
    sanitize = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    objects = []
    for source in (HERE / "trellis_cases.cpp", TRELLIS / "trellis.cpp"):
        objects.append(str(tmp_path / f"{source.stem}.o"))
        subprocess.run([*cached(compiler, *FLAGS, *sanitize), "-c", str(source), "-o", objects[-1]], check=True)
    link = [compiler, *sanitize, "-pthread", "-o", str(tmp_path / "cases"), *objects]
    built = subprocess.run(link, capture_output=True, text=True, check=False)
    if "cannot find" in built.stderr:
        pytest.skip(f"{compiler} has no {sanitizer} sanitizer here")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([tmp_path / "cases"], capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer does not start under this kernel's layout of memory")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "every column is a path\n"
