"""The entropy coder's C++ on its own: damaged blobs under the address and undefined-behaviour sanitizers.

GOLF_FAST_FUZZ_SECONDS sets how long (default 3; 60 in continuous integration), GOLF_FAST_FUZZ_SEED where it starts.
"""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RANS = ROOT / "csrc" / "rans"
SOURCES = [HERE / "rans_fuzz.cpp", *(RANS / f"{name}.cpp" for name in ("rans", "model", "tables"))]
CORPUS = sorted((ROOT / "tests" / "compress" / "golden").glob("*.rans"))
FLAGS = ["-std=c++17", "-O1", "-g", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror", f"-I{RANS}"]
SANITIZE = "-fsanitize=address,undefined"


def compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("neither g++ nor clang++ is on the PATH")
    return found


def compiled(source: Path, folder: Path) -> Path:
    output = folder / f"{source.stem}.o"
    subprocess.run([compiler(), *FLAGS, SANITIZE, "-c", "-o", str(output), str(source)], check=True)
    return output


def linked(objects: list[Path], output: Path) -> Path:
    subprocess.run([compiler(), SANITIZE, "-o", str(output), *map(str, objects)], check=True)
    return output


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rans")
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda source: compiled(source, folder), SOURCES)
        return {source.stem: each for source, each in zip(SOURCES, made, strict=True)}


@pytest.fixture(scope="session")
def program(objects: dict[str, Path]) -> Path:
    return linked(list(objects.values()), objects["rans"].with_name("rans_fuzz"))


def fuzz(program: Path, seconds: float, seed: int, *corpus: Path) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(seconds), str(seed), *map(str, corpus)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_damaged_blobs_under_sanitizers(program: Path) -> None:
    assert len(CORPUS) > 10
    seconds = float(os.environ.get("GOLF_FAST_FUZZ_SECONDS", "3"))
    done = fuzz(program, seconds, int(os.environ.get("GOLF_FAST_FUZZ_SEED", "1")), *CORPUS)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.fullmatch(r"(\d+) damaged blobs, (\d+) accepted\n", done.stdout)
    assert found is not None
    tried, accepted = map(int, found.groups())
    assert 0 < accepted < tried / 4


def test_a_blob_that_is_not_accepted_stops_it(program: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(CORPUS[0].read_bytes()[:-1])
    assert fuzz(program, 0, 1, tmp_path / "broken").returncode == 1


def test_the_gate_goes_red_on_a_planted_overrun(objects: dict[str, Path], tmp_path: Path) -> None:
    """The same program over a reader that forgets to look where the blob ends."""
    source, check = (RANS / "rans.cpp").read_text(), 'if (size > left()) throw Malformed("it ends too early");'
    assert check in source
    (tmp_path / "rans.cpp").write_text(source.replace(check, ""))
    planted = objects | {"rans": compiled(tmp_path / "rans.cpp", tmp_path)}
    done = fuzz(linked(list(planted.values()), tmp_path / "fuzz"), 2, 1, *CORPUS)
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


def test_libfuzzer_target(tmp_path: Path) -> None:
    clang = shutil.which("clang++")
    if clang is None:
        pytest.skip("no clang++ on the PATH")
    flags = [*FLAGS, "-DGOLF_LIBFUZZER", "-fsanitize=fuzzer,address,undefined"]
    target = tmp_path / "target"
    subprocess.run([clang, *flags, "-o", str(target), *map(str, SOURCES)], check=True)
    (tmp_path / "found").mkdir()
    command = [str(target), "-runs=20000", "-seed=1", str(tmp_path / "found"), str(CORPUS[0].parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
