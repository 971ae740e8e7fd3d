"""The entropy coder's C++ on its own: damaged blobs under the address and undefined-behaviour sanitizers.

GOLF_FAST_FUZZ_SECONDS sets how long (default 3; 60 in continuous integration), GOLF_FAST_FUZZ_SEED where it starts;
both also hold for libFuzzer, which runs where clang++ has it.
"""

import math
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.cached_cxx import cached

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RANS = ROOT / "csrc" / "rans"
SOURCES = [
    HERE / "rans_fuzz.cpp",
    *(RANS / f"{name}.cpp" for name in ("encode", "decode", "model", "structure", "tables")),
]
CORPUS = sorted((ROOT / "tests" / "compress" / "artifact" / "golden").glob("*.rans"))
FLAGS = ["-std=c++17", "-O1", "-g", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror", f"-I{RANS}"]
SANITIZE = "-fsanitize=address,undefined"


def compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("neither g++ nor clang++ is on the PATH")
    return found


def compiled(source: Path, folder: Path) -> Path:
    output = folder / f"{source.stem}.o"
    subprocess.run([*cached(compiler(), *FLAGS, SANITIZE), "-c", str(source), "-o", str(output)], check=True)
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
    return linked(list(objects.values()), objects["decode"].with_name("rans_fuzz"))


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


def planted_overrun(folder: Path) -> Path:
    """decode.cpp with lanes that forget to look where their words end."""
    source = (RANS / "decode.cpp").read_text()
    check = 'if (checked && empty && at == end_) throw Malformed("it ends too early");'
    assert check in source
    planted = folder / "decode.cpp"
    planted.write_text(source.replace(check, ""))
    return planted


def test_the_gate_goes_red_on_a_planted_overrun(objects: dict[str, Path], tmp_path: Path) -> None:
    planted = objects | {"decode": compiled(planted_overrun(tmp_path), tmp_path)}
    done = fuzz(linked(list(planted.values()), tmp_path / "fuzz"), 2, 1, *CORPUS)
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr


def libfuzzer(folder: Path, *sources: Path) -> subprocess.CompletedProcess[str]:
    """The target for libFuzzer over these sources, run on the kept corpus; skips where clang++ cannot make one."""
    clang = shutil.which("clang++")
    if clang is None:
        pytest.skip("no clang++ on the PATH")
    flags = [*FLAGS, "-DGOLF_LIBFUZZER", SANITIZE.replace("=", "=fuzzer,")]
    empty, target, found = folder / "empty.cpp", folder / "target", folder / "found"
    empty.write_text('extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
    tried = subprocess.run([clang, *flags, "-o", target, empty], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"clang++ has no libFuzzer: {tried.stderr.strip().splitlines()[0]}")
    subprocess.run([clang, *flags, "-o", target, *sources], check=True)
    found.mkdir()
    seconds = math.ceil(float(os.environ.get("GOLF_FAST_FUZZ_SECONDS", "3")))
    time = [f"-max_total_time={seconds}", f"-seed={os.environ.get('GOLF_FAST_FUZZ_SEED', '1')}"]
    command = [target, *time, f"-artifact_prefix={found}/", found, CORPUS[0].parent]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def test_libfuzzer_target(tmp_path: Path) -> None:
    done = libfuzzer(tmp_path, *SOURCES)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Done \d+ runs", done.stderr)


def test_libfuzzer_goes_red_on_a_planted_overrun(tmp_path: Path) -> None:
    done = libfuzzer(tmp_path, *(planted_overrun(tmp_path) if path.stem == "decode" else path for path in SOURCES))
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
