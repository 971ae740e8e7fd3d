"""Where the Triton kernels run in these tests: interpreted on a CPU, or, on a machine with one, on the GPU."""

import importlib.util
import os
import sys
from importlib.metadata import version

import pytest
import torch

ON_GPU = torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1"

if not ON_GPU:
    # triton reads the variable when a kernel is defined, and for its own library when it is imported
    assert "triton" not in sys.modules or os.environ.get("TRITON_INTERPRET") == "1", "triton was imported too early"
    os.environ["TRITON_INTERPRET"] = "1"


def interpreter_obstacle() -> str | None:
    """Why Triton kernels cannot be interpreted here, or None."""
    if ON_GPU:
        return "on a GPU the same cases run there; TRITON_INTERPRET=1 overrides"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    triton, numpy = (tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy"))
    if triton < (3, 7) and numpy >= (2, 4):
        return "the interpreter of triton 3.6 needs NumPy below 2.4"
    return None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "interpreter: runs Triton kernels in the CPU interpreter")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    obstacle = interpreter_obstacle()
    for item in items:
        if item.get_closest_marker("gpu") and not ON_GPU:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and TRITON_INTERPRET unset"))
        if item.get_closest_marker("interpreter") and obstacle:
            item.add_marker(pytest.mark.skip(reason=obstacle))


@pytest.fixture
def use_triton(monkeypatch: pytest.MonkeyPatch):
    """Every op that has Triton kernels uses them; the launch counts start at 0 and are returned."""
    pytest.importorskip("triton")
    from golf_fast.ops import backends
    from golf_fast.ops.launch import launches

    monkeypatch.setenv(backends.VARIABLE, "triton")
    backends.forget()
    launches.clear()
    yield launches
    backends.forget()
