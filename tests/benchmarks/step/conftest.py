"""A small model whose step is measured, and a folder of its own for what is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_step import SMALL, small

from benchmarks import results
from benchmarks.step import measure
from benchmarks.step import parts as step_parts
from golf_fast.model import GPT
from golf_fast.recipes import RECIPES


@pytest.fixture(autouse=True)
def own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    monkeypatch.setenv(results.VARIABLE, str(folder))
    monkeypatch.setitem(RECIPES, "small", small)
    monkeypatch.setattr(measure, "CPU_PRODUCT", 64)
    monkeypatch.setattr(measure, "CPU_COPY_BYTES", 1 << 16)
    return folder


@pytest.fixture(scope="module")
def model() -> GPT:
    made = GPT(SMALL)
    step_parts.fill(made)
    return made
