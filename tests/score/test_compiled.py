"""Scoring and test-time training through torch.compile: the same numbers, from one graph each."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from score.small import score, small_config, small_gpt, some_tokens

from golf_fast.config import compiles


@pytest.fixture
def compiled_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the tokens of every call of a compiled function; compiled by a backend that needs no C++ compiler."""
    torch._dynamo.reset()
    calls: list[tuple[int, ...]] = []
    compile_ = functools.partial(torch.compile, backend="aot_eager")

    def counting(function: Callable[..., torch.Tensor], **options: object) -> Callable[..., torch.Tensor]:
        made = compile_(function, **options)

        def call(tokens: torch.Tensor, *rest: torch.Tensor, **more: int) -> torch.Tensor:
            calls.append(tuple(tokens.shape))
            return made(tokens, *rest, **more)

        return call

    monkeypatch.setattr(torch, "compile", counting)
    return calls


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.parametrize(("ttt", "expected_graphs"), [("off", 1), ("chunked", 2)])
def test_scores_are_those_of_the_model_as_it_is(
    ttt: str, expected_graphs: int, compiled_calls: list[tuple[int, ...]]
) -> None:
    tokens = some_tokens(260)
    plain = score(small_gpt(), tokens, small_config(ttt=ttt, ttt_chunk_tokens=48, compile="off"))
    assert not compiled_calls
    before = graphs()
    found = score(small_gpt(), tokens, small_config(ttt=ttt, ttt_chunk_tokens=48, compile="on"))
    assert graphs() - before == expected_graphs
    np.testing.assert_allclose(found.losses, plain.losses, rtol=2e-5, atol=2e-6)
    assert found.legal
    # Batches of three windows throughout, also where fewer are left; the first window goes without; rows two at a time.
    assert set(compiled_calls) == ({(3, 12)} if ttt == "off" else {(3, 12), (2, 12)})


def test_a_rest_of_rows_is_trained_on_uncompiled(compiled_calls: list[tuple[int, ...]]) -> None:
    """Chunks of three rows, in batches of two."""
    tokens = some_tokens(160)
    config = small_config(ttt_chunk_tokens=36, ttt_epochs=1)
    plain = score(small_gpt(), tokens, config)
    found = score(small_gpt(), tokens, small_config(ttt_chunk_tokens=36, ttt_epochs=1, compile="on"))
    np.testing.assert_allclose(found.losses, plain.losses, rtol=2e-5, atol=2e-6)
    chunks_trained_on = 4  # of 36 tokens out of 159, but for the last
    assert compiled_calls.count((2, 12)) == chunks_trained_on
    assert (1, 12) not in compiled_calls


def test_a_graph_break_is_an_error(compiled_calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_gpt()
    losses = model.token_losses

    def breaking(*arguments: torch.Tensor, **more: int) -> torch.Tensor:
        torch._dynamo.graph_break()
        return losses(*arguments, **more)

    monkeypatch.setattr(model, "token_losses", breaking)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        score(model, some_tokens(60), small_config(ttt="off", compile="on"))


def test_auto_compiles_on_a_gpu_alone(compiled_calls: list[tuple[int, ...]]) -> None:
    assert [compiles("auto", kind) for kind in ("cuda", "cpu")] == [True, False]
    assert [compiles(setting, kind) for setting in ("on", "off") for kind in ("cuda", "cpu")] == [
        True,
        True,
        False,
        False,
    ]
    assert small_config().compile == "auto"
    score(small_gpt(), some_tokens(100), small_config())
    assert not compiled_calls
