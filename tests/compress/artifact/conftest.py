"""The two coders, one after the other."""

from collections.abc import Iterator

import pytest
from helpers.rans_examples import needs_extension, use

from golf_fast.ops import backends


@pytest.fixture(params=[pytest.param("native", marks=needs_extension), "numpy"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    use(request.param, monkeypatch)
    yield request.param
    backends.forget()
