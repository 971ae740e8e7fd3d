"""The entropy coder: exact, near the entropy, and equal in C++ and NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.rans_examples import (
    EXAMPLES,
    GENERAL,
    GLOBAL,
    RANK1,
    clipped,
    kind,
    needs_extension,
    on_a_trellis,
    rank1,
    use,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.compress import trellis_quantize
from golf_fast.compress.artifact import rans, rans_numpy
from golf_fast.compress.integers import trellis_numpy
from golf_fast.ops import backends

GOLDEN = Path(__file__).parent / "golden"


def facts(blob: bytes) -> tuple[int, ...]:
    """Contexts, states, reach and whether there is a template, of a general model whose sides are below 128 or not."""
    at = 2
    for _ in range(2):
        while blob[at] & 128:
            at += 1
        at += 1
    return tuple(blob[at : at + 4])


@pytest.mark.parametrize(("values", "bits", "expected"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples(values: np.ndarray, bits: int, expected: int, backend: str) -> None:
    blob = rans.encode(values, bits)
    assert kind(blob) == expected
    assert len(blob) <= values.size + 12
    restored = rans.decode(blob, values.shape)
    assert (restored.dtype, restored.shape) == (np.int8, values.shape)
    assert np.array_equal(restored, values)
    restored += 1  # memory of its own


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_files_pin_the_format(name: str, backend: str) -> None:
    """A file that was once written is read for ever, and the encoder's choices do not drift."""
    values, bits, _ = EXAMPLES[name]
    golden = (GOLDEN / f"{name.replace(' ', '_')}.rans").read_bytes()
    assert np.array_equal(rans.decode(golden), values)
    assert rans.encode(values, bits) == golden


@needs_extension
@settings(max_examples=150)
@given(
    rows=st.integers(0, 40),
    cols=st.integers(0, 60),
    bits=st.integers(2, 8),
    sigma=st.floats(-4, 8),
    spread=st.sampled_from([0.0, 0.3, 2.0]),
    symbols=st.none() | st.lists(st.integers(-128, 127), min_size=1, max_size=5),
    states=st.sampled_from([0, 0, 4, 8]),
    alike=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_both_write_the_same_bytes(
    rows: int,
    cols: int,
    bits: int,
    sigma: float,
    spread: float,
    symbols: list[int] | None,
    states: int,
    alike: float,
    seed: int,
) -> None:
    values = rank1(rows, cols, bits, 2**sigma, spread, seed)
    if symbols:
        values = clipped(np.random.default_rng(seed).choice(symbols, (rows, cols)), bits)
    elif states or alike:
        values, bits = on_a_trellis(rows, cols, states or 4, 2**-sigma, seed, alike), 8
        if not states:
            values = values >> 1
    with pytest.MonkeyPatch.context() as patch:
        blobs = []
        for name in ("native", "numpy"):
            use(name, patch)
            blobs.append(rans.encode(values, bits))
            assert np.array_equal(rans.decode(blobs[0], (rows, cols)), values)
    backends.forget()
    assert blobs[0] == blobs[1]


@pytest.mark.parametrize("bits", [5, 6])
def test_near_the_entropy_of_the_true_model(bits: int) -> None:
    """Within 1 % of what a coder would need that knew every sigma, side information included."""
    rows, cols, largest = 512, 768, (1 << bits - 1) - 1
    random = np.random.default_rng(bits)
    sigmas = largest / 4 * 2 ** (0.25 * random.normal(size=(rows, 1)) + 0.25 * random.normal(size=cols))
    values = clipped(random.normal(size=(rows, cols)) * sigmas, bits)
    symbols = np.arange(-largest - 1, largest + 1)
    weights = np.exp(-((symbols / sigmas[..., None]) ** 2) / 2)
    own = np.exp(-((values / sigmas) ** 2) / 2)
    ideal = -np.log2(own / weights.sum(axis=-1)).mean()
    blob = rans.encode(values, bits)
    assert kind(blob) == RANK1
    assert 8 * len(blob) / values.size < 1.01 * ideal


def test_a_histogram_costs_its_order_0_entropy() -> None:
    random = np.random.default_rng(0)
    values = random.choice(np.array([-77, -1, 5, 40, 41, 99], np.int8), (600, 900), p=[0.4, 0.3, 0.2, 0.05, 0.04, 0.01])
    _, counts = np.unique(values, return_counts=True)
    ideal = (counts * np.log2(values.size / counts)).sum()
    assert 8 * len(rans.encode(values, 8)) < 1.005 * ideal + 8 * 256


@pytest.mark.parametrize(
    "variant",
    [
        lambda v: torch.from_numpy(v),
        lambda v: torch.from_numpy(v.T.copy()).T,
        lambda v: np.asfortranarray(v),
        lambda v: np.repeat(v, 2, axis=1)[:, ::2],
    ],
    ids=["torch", "torch strided", "Fortran order", "every second"],
)
def test_strides_and_torch(variant: Callable[[np.ndarray], object], backend: str) -> None:
    values = rank1(30, 40, 6, 5.0, 0.3, 0)
    assert rans.encode(variant(values), 6) == rans.encode(values, 6)


@pytest.mark.parametrize(
    ("values", "bits", "says"),
    [
        (np.zeros((2, 2), np.int16), 6, "int16"),
        (np.zeros(4, np.int8), 6, "rows, cols"),
        (np.zeros((2, 2), np.int8), 1, "from 2 to 8"),
        (np.zeros((2, 2), np.int8), 9, "from 2 to 8"),
        (np.full((2, 2), 16, np.int8), 5, "from 0 to 16; int5 holds -16 to 15"),
        (np.full((2, 2), -33, np.int8), 6, "from -33 to 0"),
        (np.broadcast_to(np.int8(0), (1 << 20, 1 << 9)), 6, "at most"),
    ],
)
def test_what_cannot_be_coded(values: np.ndarray, bits: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rans.encode(values, bits)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trellis", (8, 0)),
        ("trellis of 4 states", (4, 0)),
        ("alike rows", (0, 1)),
        ("trellis and alike rows", (8, 1)),
    ],
)
def test_structure_is_found(name: str, expected: tuple[int, int]) -> None:
    values, bits, _ = EXAMPLES[name]
    _, states, reach, template = facts(rans.encode(values, bits))
    assert (states, template) == expected
    assert template or reach == np.abs(values.astype(int)).max()


@pytest.mark.parametrize("states", [4, 8])
def test_half_of_the_alphabet_costs_nothing(states: int) -> None:
    """About the entropy of Gaussians of known scales at a grid twice as wide: a bit less than without a path."""
    random = np.random.default_rng(states)
    sigmas = np.exp(0.3 * random.normal(size=(400, 1)))
    weights = (random.normal(size=(400, 300)) * sigmas).astype(np.float32)
    step = 0.25
    blob = rans.encode(trellis_quantize(weights, np.full(400, step, np.float32), states), 8)
    ideal = np.log2(sigmas / (2 * step) * np.sqrt(2 * np.pi * np.e)).mean()
    assert 8 * len(blob) / weights.size == pytest.approx(ideal, rel=0.02)


def test_alike_rows_cost_their_differences() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(600, 200)) * 20
    values[100:300] = random.normal(size=200) * 20 + random.normal(size=(200, 200))
    blob = rans.encode(clipped(values, 8), 8)
    shares = [np.log2(sigma * np.sqrt(2 * np.pi * np.e)) for sigma in (20, np.sqrt(1 + 1 / 12))]
    assert 8 * len(blob) / values.size == pytest.approx((400 * shares[0] + 200 * shares[1]) / 600, rel=0.02)


def test_the_table_of_states_is_that_of_the_quantizer() -> None:
    for states in (4, 8):
        assert np.array_equal(rans_numpy.NEXT[states], trellis_numpy.next_states(states))


def test_the_constants_of_the_numpy_coder() -> None:
    assert len(MIX := rans_numpy.MIXTURES) == 10
    assert all(0 <= second <= 16 for second, *_ in MIX)
    assert rans_numpy.EIGHTHS[4] == round(2**30.5)
    model = rans_numpy.Model(GLOBAL, rans_numpy.NONE, rans_numpy.NONE)
    tables = rans_numpy._tables(model, np.arange(-32, 32), 3)
    assert (np.diff(tables) >= 1).all()
    assert (tables[:, -1] == rans_numpy.TOTAL).all()


@needs_extension
def test_alike_rows_with_far_values_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are alike but for a difference of more than 8 bits: none of their sums wraps."""
    values = np.tile(np.arange(-127, 128, 5, dtype=np.int8), (40, 4))
    values = values + np.random.default_rng(3).integers(-1, 2, values.shape).astype(np.int8)
    values[::3, 0] = 127
    blobs = []
    for backend in ("native", "numpy"):
        use(backend, monkeypatch)
        blobs.append(rans.encode(values, 8))
        assert np.array_equal(rans.decode(blobs[-1]), values)
    backends.forget()
    assert blobs[0] == blobs[1]
    assert kind(blobs[0]) == GENERAL
