"""What tests of several folders share."""

import importlib.util
import multiprocessing.context
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import ranks

import golf_fast

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and numpy are imported, and for the programs that tests start: workers that have a thread for each
    # core take the cores from each other.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

LONGEST = (
    "pipeline",
    "resume",
    "kills",
    "rans",
    "csrc",
    "packaging",
    "entropy",
    "kernels",
    "window_attention",
    "compiled",
    "plain_steps",
)
"""What workers begin with, so that none begins with it when the others have nothing left: tests/**/test_*.py."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What `-n` alone means here: a file stays on one worker, for its tests share what takes long to make."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # by the number of tests, which is not how long they take
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def fork_context() -> multiprocessing.context.ForkServerContext:
    """What processes are forked from that need not import torch."""
    return ranks.fork_context([Path(golf_fast.__file__).parents[1], Path(__file__).parent])


@pytest.fixture(scope="session")
def start_ranks(
    tmp_path_factory: pytest.TempPathFactory, fork_context: multiprocessing.context.ForkServerContext
) -> Callable[..., ranks.Job]:
    """A function `(script, world_size, *arguments)` that gives a script as the ranks of one run, while a block runs."""

    def start(script: str | Path, world_size: int, *arguments: object) -> ranks.Job:
        said = tmp_path_factory.mktemp("said")
        return ranks.Job(fork_context, said, str(script), world_size, [str(argument) for argument in arguments])

    return start


@pytest.fixture(scope="session")
def run_ranks(
    tmp_path_factory: pytest.TempPathFactory, fork_context: multiprocessing.context.ForkServerContext
) -> Callable[..., None]:
    """A function `(script, world_size, *arguments)` that runs a script as the ranks of one run, as torchrun does."""

    def run(script: str | Path, world_size: int, *arguments: object) -> None:
        said = tmp_path_factory.mktemp("said")
        given = [str(argument) for argument in arguments]
        ranks.finish(*ranks.start(fork_context, said, str(script), world_size, given))

    return run


@pytest.fixture(scope="session")
def setup_py() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golf_fast_setup", Path(__file__).parents[1] / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module
