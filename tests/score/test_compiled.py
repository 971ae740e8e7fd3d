"""Scoring and test-time training through torch.compile: the same losses, as few graphs as can be, each made once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small_scoring import Tables, score, small_config, small_gpt, some_tokens
from torch import Tensor

from golf_fast.config import ScoreConfig, compiles
from golf_fast.ops import backends
from golf_fast.score.ttt import weights
from golf_fast.score_config import DocumentsConfig, PhasedConfig

TOKENS = some_tokens(2 * 156 + 20)
two_blocks = functools.partial(small_gpt, layers=2)
PUBLISHED = {"ttt": "train_then_score", "allow_illegal": True}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How many graphs were made so far, by a backend of torch.compile that needs no C++ compiler."""
    torch._dynamo.reset()
    backends.describe("cpu")
    counts = torch._dynamo.utils.counters["stats"]
    before = counts["unique_graphs"]
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    yield lambda: counts["unique_graphs"] - before
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("make", "config", "expected"),
    [
        (two_blocks, small_config(ttt="off"), 1),
        (two_blocks, small_config(ttt_chunk_tokens=48, ttt_lr=0.1, ttt_freeze_blocks=1), 1 + 1),
        # 13 rows a chunk, or 27 in all: steps of 7 and one of 6, so 4, 3, ..., 4 and 2 at a time.
        (Tables, small_config(ttt_chunk_tokens=156, ttt_batch_rows=7), 1 + 3),
        (Tables, small_config(ttt_batch_rows=7, **PUBLISHED), 1 + 3),
    ],
    ids=["off", "chunked", "rests of rows", "train_then_score"],
)
def test_the_losses_are_the_same_and_graphs_are_made_once(
    make: Callable[[], torch.nn.Module],
    config: ScoreConfig,
    expected: int,
    graphs: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(weights._MICRO_BATCH_TOKENS, "cpu", 4 * config.window)
    plain = score(make(), TOKENS, config)
    assert graphs() == 0
    model = make()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    compiled = score(model, TOKENS, replace(config, compile="on"))
    assert graphs() == expected
    np.testing.assert_allclose(compiled.losses, plain.losses, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))
    again = score(model, TOKENS, replace(config, compile="on"))
    assert np.array_equal(again.losses, compiled.losses)
    assert graphs() == expected


def test_passes_of_many_lengths_make_no_more_graphs(graphs: Callable[[], int]) -> None:
    phased = PhasedConfig(documents=12, phases=12, chunk_tokens=12 * 12, batch_rows=12, lr=0.01)
    documents = DocumentsConfig(rank=1, chunk_tokens=12, context=12, batch=1)
    config = small_config(ttt="phased", phased=phased, documents=documents)
    tokens = np.tile(np.r_[1, np.full(39, 5)], 16).astype(np.uint16)
    plain = score(two_blocks(), tokens, config)
    compiled = score(two_blocks(), tokens, replace(config, compile="on"))
    assert graphs() == 1
    np.testing.assert_allclose(compiled.losses, plain.losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("protocol", ["off", "chunked"])
def test_the_losses_are_the_same_bits_where_batches_leave_no_trace_in_them(
    protocol: str, graphs: Callable[[], int]
) -> None:
    config = small_config(ttt=protocol)
    compiled = score(Tables(), TOKENS, replace(config, compile="on"))
    assert graphs() > 0
    assert np.array_equal(compiled.losses, score(Tables(), TOKENS, config).losses)


@pytest.mark.parametrize("setting", ["on", "off"])
def test_scoring_makes_no_graph_of_training_anew(setting: str, graphs: Callable[[], int]) -> None:
    model = two_blocks()
    training = torch.compile(model, dynamic=False)
    tokens = torch.zeros(2, 12, dtype=torch.int64)
    training(tokens, tokens)
    assert graphs() == 1
    score(model, TOKENS, small_config(ttt="off", compile=setting))
    training(tokens, tokens)
    assert graphs() == 1 + (setting == "on")


@pytest.mark.parametrize("in_training", [False, True])
def test_what_cannot_be_compiled_whole_is_an_error(in_training: bool, graphs: Callable[[], int]) -> None:
    class Breaking(Tables):
        def token_losses(
            self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0
        ) -> Tensor:
            if torch.is_grad_enabled() == in_training:
                torch._dynamo.graph_break()
            return super().token_losses(tokens, targets, documents, first)

    assert score(Breaking(), TOKENS, small_config()).legal
    with pytest.raises(torch._dynamo.exc.Unsupported):
        score(Breaking(), TOKENS, small_config(compile="on"))


def test_auto_compiles_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(*_: object, **__: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", compile_)
    assert small_config().compile == "auto"
    score(Tables(), TOKENS, small_config())
    with pytest.raises(AssertionError, match="compiled"):
        score(Tables(), TOKENS, small_config(compile="on"))
    settings = [(setting, kind) for setting in ("auto", "on", "off") for kind in ("cpu", "cuda")]
    assert [pair for pair in settings if compiles(*pair)] == [("auto", "cuda"), ("on", "cpu"), ("on", "cuda")]
