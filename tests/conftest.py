"""What tests of several folders share."""

import gc
import importlib.util
import multiprocessing.context
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
from helpers import ranks

import golf_fast

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and numpy are imported, and for the programs that tests start: workers that have a thread for each
    # core take the cores from each other.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

# How long an example takes says nothing on a machine that does other work, too.
hypothesis.settings.register_profile(
    "golf_fast", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("golf_fast")

gc.disable()  # until all tests are collected: looking through them again and again takes a third of the time

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and tests send it

HERE = Path(__file__).parent
LONGEST = (
    "submit/",
    "csrc/test_rans.py",
    "pipeline/test_kills.py",
    "test_packaging.py",
    "pipeline/test_nodes.py",
    "ops/test_compile_gates.py",
    "test_pipeline.py",
    "pipeline/test_lost_ranks.py",
    "csrc/",
    "ops/test_kernels.py",
    "ops/test_model_step.py",
    "pipeline/test_resume",
    "compress/test_memory.py",
    "compress/artifact/",
    "train/test_plain_steps.py",
    "ops/test_compute_sanitizer.py",
    "score/test_compiled.py",
)
"""What workers begin with, so that none begins with it when the others have nothing left: what paths below tests/ begin
with."""
TOGETHER = ("submit/", "audit/run/", "pipeline/test_resume")
"""Files that share what takes long to make, and so a worker."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: begins_with(LONGEST, item.path.relative_to(HERE).as_posix()))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def begins_with(places: Sequence[str], path: str) -> int:
    """Which of the places a path begins with; their number if with none."""
    return next((number for number, place in enumerate(places) if path.startswith(place)), len(places))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What `-n` alone means here: a file stays on one worker, for its tests share what takes long to make."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            within = file.removeprefix("tests/")
            return (*TOGETHER, file)[begins_with(TOGETHER, within)]

    config.option.loadscopereorder = False  # by the number of tests, which is not how long they take
    return Scheduling(config, log)


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
