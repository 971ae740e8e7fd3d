"""torch.compile as a run uses it: a graph for every shape and setting of a run, and no text of what an op is given."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from helpers.small_scoring import small_gpt
from torch.torch_version import TorchVersion

from golf_fast.model.compilation import compiled
from golf_fast.ops import backends


@pytest.fixture
def _as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's own limit of graphs, and a backend of torch.compile that needs no C++ compiler."""
    backends.describe("cpu")
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    with torch._dynamo.config.patch(recompile_limit=8):
        yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_as_a_new_process")
def test_more_shapes_than_torch_compiles_by_default() -> None:
    """Windows and rows that grow make many graphs in training, and what adapts afterwards shares its function."""
    stats, made = torch._dynamo.utils.counters["stats"], []
    model, tokens = small_gpt(layers=1), torch.arange(24).view(2, 12) % 8
    trained = compiled(model)
    for window in range(1, 11):
        before = stats["unique_graphs"]
        model.limit_windows(window)
        loss = trained(tokens, tokens)
        made.append(stats["unique_graphs"] - before)
        assert torch.equal(loss, model(tokens, tokens))
    assert made == [1] * 10
    adapted = small_gpt(layers=1)
    one_row = tokens[:1]
    assert torch.equal(compiled(adapted, fullgraph=True)(one_row, one_row), adapted(one_row, one_row))


@pytest.mark.usefixtures("_as_a_new_process")
def test_the_compiler_of_torch_2_11_writes_out_no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of what a deep graph's last ops are made of does not fit a memory."""
    from torch._inductor import exc

    class Deep:
        def __repr__(self) -> str:
            raise AssertionError("written out")

    monkeypatch.setattr(exc.OperatorIssue, "operator_str", staticmethod(lambda *given: "".join(map(str, given))))
    with pytest.raises(AssertionError, match="written out"):
        exc.MissingOperatorWithoutDecomp("an op", [Deep()], {})
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.11.0+cu130"))
    compiled(lambda *given: torch.zeros(1))
    assert "an op" in str(exc.MissingOperatorWithoutDecomp("an op", [Deep()], {}))
