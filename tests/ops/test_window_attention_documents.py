"""Attention within documents on a CPU: rows that fall into equal ones, what is kept for the backward, and shapes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from helpers.compare import require_same

from golf_fast.ops import backends, passes
from golf_fast.ops.registry import Sample
from golf_fast.ops.window_attention import blocked, native, reference
from golf_fast.ops.window_attention.cases import CASES, cumulative

if passes.obstacle("cpu"):
    pytest.skip(str(passes.obstacle("cpu")), allow_module_level=True)

CPU = torch.device("cpu")


def sample(length: int, ends: tuple[int, ...], window: int | None, dtype: torch.dtype) -> Sample:
    """4 and 2 heads of 8 for positions of documents that end before `ends`, and of the last."""
    generator = torch.Generator().manual_seed(length)
    q, k, v = (
        torch.randn(1, length, heads, 8, generator=generator, dtype=torch.float64).to(dtype) for heads in (4, 2, 2)
    )
    cu_seqlens = cumulative(ends, length, CPU)
    return Sample(f"{length} {ends} {window}", (q, k, v, window), {"cu_seqlens": cu_seqlens}, (0, 1, 2))


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each pass runs."""
    names: Counter[str] = Counter()
    before = passes.run
    monkeypatch.setattr(passes, "run", lambda name, *rest: (names.update([name]), before(name, *rest))[1])
    monkeypatch.setenv(backends.VARIABLE, "native")
    backends.forget()
    yield names
    backends.forget()


# four rows; a start within two of them; with a window; rows of another length than a block; no rows, one block and more
@pytest.mark.parametrize(
    ("length", "ends", "window"),
    [
        (256, (64, 128, 192), None),
        (256, (64, 100, 128, 192, 193, 255), None),
        (256, (64, 101, 128, 192), 40),
        (200, (1, 100), 70),
        (200, (10, 90, 91), None),
        (300, (130,), 70),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_documents_against_float64(
    length: int, ends: tuple[int, ...], window: int | None, dtype: torch.dtype, called: Counter[str]
) -> None:
    require_same(CASES, sample(length, ends, window, dtype))
    assert called["causal_softmax"] == called["causal_softmax_gradient"] > 0


def test_shares_of_long_documents_are_computed_again(monkeypatch: pytest.MonkeyPatch, called: Counter[str]) -> None:
    monkeypatch.setattr(native, "KEPT_KEYS", 64)
    require_same(CASES, sample(200, (150,), None, torch.float32))
    assert called["causal_softmax"] == 2 * called["causal_softmax_gradient"] > 0


@pytest.mark.parametrize(
    ("length", "ends", "folds"),
    [
        (256, (64, 128, 192), 4),
        (256, (64, 70, 128, 192), 4),
        (256, (128,), 2),
        (256, (64, 128), 2),
        (256, (127,), 1),
        (192, (96,), 2),
        (100, (50,), 1),
        (0, (), 1),
    ],
)
def test_rows_that_documents_fall_into(length: int, ends: tuple[int, ...], folds: int) -> None:
    cu_seqlens = cumulative(ends, length, CPU)
    assert native.folds_of(reference.document_bounds(cu_seqlens, length)[0]) == folds


def test_documents_anywhere_make_products_of_few_shapes() -> None:
    """The code of a product is made for its shape, which takes ten times as long as the product."""
    sizes = {
        (piece.stop - piece.start, piece.stop - piece.first)
        for end in range(1, 600, 7)
        for piece in blocked.pieces(640, 640, None, cumulative((end,), 640, CPU))
    }
    assert len(sizes) <= 30
