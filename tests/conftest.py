"""What tests of several folders share."""

from collections.abc import Callable
from pathlib import Path

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
