"""What tests of several folders share."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import ranks

import golf_fast


@pytest.fixture(scope="session")
def run_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """A function `(script, world_size, *arguments)` that runs a script as the ranks of one run, as torchrun does."""
    context = ranks.fork_context([Path(golf_fast.__file__).parents[1], Path(__file__).parent])

    def run(script: str | Path, world_size: int, *arguments: object) -> None:
        said = tmp_path_factory.mktemp("said")
        ranks.run(context, said, str(script), world_size, [str(argument) for argument in arguments])

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
