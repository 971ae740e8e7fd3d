"""The sdist, the wheel and a plain `pip install .` work with the source tree out of sight."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from helpers.cached_cxx import cached

ROOT = Path(__file__).parents[1]
SHIPPED = ("golf_fast", "csrc", "tests")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "requirements.txt", "README.md", "CHANGELOG.md", "LICENSE")

USE = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import golf_fast
import torch
from golf_fast.ops import backends, bitpack
from golf_fast.recipes import RECIPES

assert Path(golf_fast.__file__).is_relative_to(sys.argv[1]), golf_fast.__file__
assert Path(golf_fast.__file__).with_name("py.typed").exists()
assert backends.resolve("bitpack", "cpu").name == "native", backends.resolve("bitpack", "cpu")
weights = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
planes, scales = bitpack.quantize_pack(weights, 6)
back = bitpack.unpack_dequantize(planes, scales, 6, (3, 200))
assert (back - weights).abs().max() < weights.abs().max() / 31
assert "tiny" in RECIPES
print("used", golf_fast.__version__)
"""


def run(command: list[object], cwd: Path, **environment: str) -> str:
    environment = {"GOLF_FAST_CUDA": "0", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{command}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def compiler(setup_py: ModuleType) -> str:
    """The compiler as CXX names it, but that it optimizes nothing, which takes less time, and takes the objects of an
    earlier build of the same text."""
    return shlex.join(cached(*setup_py.cxx(), "-O0"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the source tree ships, without what was built in it."""
    for module in ("setuptools", "pybind11", "ninja", "wheel", "build", "pip"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"building needs {module}")
    if not (ROOT / "setup.py").exists():
        pytest.skip("these tests are not in a source tree")
    folder = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info"))
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


def install_and_use(what: Path, folder: Path, **environment: str) -> None:
    target = folder / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target]
    run([*pip, what], folder, **environment)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    assert run([sys.executable, "-I", "-c", USE, target], elsewhere).startswith("used ")


def test_sdist_and_the_wheel_made_from_it(source: Path, compiler: str, tmp_path: Path) -> None:
    # --sdist --wheel would build the wheel from the tree; without either it is built from the sdist.
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, source], tmp_path, CXX=compiler)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    ours = {str(path.relative_to(source)) for path in (source / "csrc").rglob("*") if path.is_file()}
    assert ours <= names
    assert {"setup.py", "pyproject.toml", "requirements.txt", "golf_fast/py.typed"} <= names
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"golf_fast/py.typed", "golf_fast/_C.pyi", "golf_fast/ops/bitpack/native.py"} <= names
    assert "golf_fast/recipes/measured.jsonl" in names
    assert len([name for name in names if re.fullmatch(r"golf_fast/_C\.[^/]*\.so", name)]) == 1
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"golf_fast"}
    install_and_use(wheel, tmp_path)


def test_plain_install(source: Path, compiler: str, tmp_path: Path) -> None:
    install_and_use(source, tmp_path, CXX=compiler)


def test_every_package_of_the_tree_is_found() -> None:
    """A folder of modules without an `__init__.py` would be left out of the wheel in silence."""
    for module in (ROOT / "golf_fast").rglob("*.py"):
        assert (module.parent / "__init__.py").exists(), f"{module.parent} has no __init__.py"


def pins() -> dict[str, str]:
    text = (ROOT / "requirements.txt").read_text() + (ROOT / "tests" / "constraints.txt").read_text()
    return dict(re.findall(r"^([A-Za-z0-9_-]+)==([^\s;]+)", text, re.MULTILINE))


def test_pins_are_within_the_declared_ranges() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins()
    assert pinned["torch"] == "2.13.0"
    assert pinned["triton"] == "3.7.1"
    for text in project["dependencies"] + project["optional-dependencies"]["test"]:
        requirement = requirements.Requirement(text)
        assert pinned[requirement.name] in requirement.specifier, text


def test_torch_demands_the_pinned_triton() -> None:
    """The CUDA builds of torch name the triton that they need; a CPU build names none."""
    requirements = pytest.importorskip("packaging.requirements")
    if importlib.metadata.version("torch").partition("+")[0] != pins()["torch"]:
        pytest.skip("another torch than the pinned one is installed")
    wanted = [
        requirement
        for requirement in map(requirements.Requirement, importlib.metadata.requires("torch") or [])
        if requirement.name == "triton"
    ]
    if not wanted:
        pytest.skip("this build of torch demands no triton")
    assert pins()["triton"] in wanted[0].specifier
