"""The made run, once for all tests here, and a copy of it for each that forges."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.audited_run import train


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a run with another seed; how that run was scored is not in it."""
    return train(tmp_path_factory.mktemp("other"), "--score.ttt=off", "--seed=7") / "artifact.golf"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to be forged."""
    return shutil.copytree(made, tmp_path / "run")
