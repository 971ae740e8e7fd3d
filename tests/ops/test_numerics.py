"""The tolerance rule sees what a kernel can do wrong, and lets pass what it does right."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import RMS_FACTOR, absolute_tolerance, error, require_close, rms_error

LENGTH, WIDTH = 2048, 64


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
    """Causal attention of one head; `hidden` `[T, T]` are pairs that it leaves out."""
    length = q.shape[0]
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    if hidden is not None:
        visible &= ~hidden
    scores = (q.float() @ k.float().T).to(q.dtype) if q.dtype != torch.float64 else q @ k.T
    weights = (scores * WIDTH**-0.5).masked_fill(~visible, float("-inf")).softmax(-1)
    return weights @ v


@pytest.fixture(scope="module")
def heads() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(LENGTH, WIDTH, generator=generator).half() for _ in range(3))


def tile(rows: int, keys: int, height: int = 64, width: int = 64) -> torch.Tensor:
    hidden = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
    hidden[rows : rows + height, keys : keys + width] = True
    return hidden


@pytest.mark.parametrize(
    "hidden",
    [tile(1984, 64), tile(1984, 1000, 64, 1), tile(1024, 0, 64, 8)],
    ids=["a tile in late rows", "one key of a tile's rows", "eight keys"],
)
def test_what_attention_leaves_out_is_seen(heads: tuple[torch.Tensor, ...], hidden: torch.Tensor) -> None:
    exact = attention(*(t.double() for t in heads))
    low = attention(*heads)
    ours = attention(*(t.double() for t in heads)).half()  # a kernel that rounds once
    require_close(ours, exact, low, "whole")
    dropped = attention(*(t.double() for t in heads), hidden).half()
    rows = hidden.any(1)
    with pytest.raises(AssertionError, match="error"):
        require_close(dropped[rows], exact[rows], low[rows], "the rows that lack something")


@pytest.mark.parametrize(
    "hidden", [tile(1024, 5, 1024, 1), tile(1792, 64, 256, 12)], ids=["one key of late rows", "a part of late tiles"]
)
def test_the_root_mean_square_sees_what_the_largest_error_hides(
    heads: tuple[torch.Tensor, ...], hidden: torch.Tensor
) -> None:
    """Of all rows in bfloat16, where early rows have larger errors than what late ones lack makes."""
    narrow = tuple(t.bfloat16() for t in heads)
    wide = tuple(t.double() for t in narrow)
    exact, low = attention(*wide), attention(*narrow)
    whole, dropped = attention(*wide).bfloat16(), attention(*wide, hidden).bfloat16()
    assert error(dropped, exact) <= 2 * error(low, exact) + absolute_tolerance(exact, torch.bfloat16)
    assert rms_error(whole, exact) <= RMS_FACTOR * rms_error(low, exact) < rms_error(dropped, exact)


def test_a_nan_an_infinity_and_a_shape_never_pass() -> None:
    right = torch.linspace(1, 2, 300).double()
    for spoiled in (right.clone().fill_(float("nan")), right.clone().fill_(float("inf")), right[:-1]):
        with pytest.raises(AssertionError):
            require_close(spoiled.bfloat16(), right, right.bfloat16(), "spoiled")
