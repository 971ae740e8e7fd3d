"""Trellis-coded quantization: optimal, near the rate-distortion bound, and the same bits from C++ and NumPy."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.compress import trellis_quantize
from golf_fast.compress.integers import trellis, trellis_numpy
from golf_fast.ops import backends, extension

needs_extension = pytest.mark.skipif(extension.missing is not None, reason=f"{extension.missing}")
SUBSETS = {4: ("02", "13", "20", "31"), 8: ("02", "13", "20", "31", "20", "31", "02", "13")}
"""Of the two branches of each state, as published."""


def gaussian(rows: int, cols: int, seed: int = 0, spread: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, cols)) * np.exp(spread * random.normal(size=(rows, 1)))).astype(np.float32)


def walk(column: np.ndarray, states: int) -> list[int]:
    """The states before each integer of a path; fails if it is none."""
    state, passed = 0, []
    for integer in column:
        passed.append(state)
        branch = SUBSETS[states][state].index(str(int(integer) % 4))
        state = (2 * state + branch) % states
    return passed


def conditional_entropy(values: np.ndarray, states: int) -> float:
    """Bits an integer takes where its parity is known."""
    parities = np.stack([np.array(walk(column, states)) & 1 for column in values.T], axis=1)
    bits = 0.0
    for parity in (0, 1):
        _, counts = np.unique(values[parities == parity], return_counts=True)
        bits += (counts * np.log2(counts.sum() / counts)).sum()
    return bits / values.size


@needs_extension
@settings(max_examples=60)
@given(
    rows=st.integers(0, 40),
    cols=st.integers(0, 40),
    states=st.sampled_from([4, 8]),
    rate=st.sampled_from([0.0, 0.3, 1.0, 7.0]),
    spread=st.sampled_from([0.0, 0.5, 20.0]),
    step=st.floats(-60, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_cpp_and_numpy_are_equal(
    rows: int, cols: int, states: int, rate: float, spread: float, step: float, seed: int
) -> None:
    weights = gaussian(rows, cols, seed, spread)
    steps = (2.0**step * np.abs(gaussian(rows, 1, seed + 1)[:, 0]) + 1e-38).astype(np.float32)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("native", "numpy"):
            patch.setenv(backends.VARIABLE, f"trellis={name}")
            backends.forget()
            found.append(trellis_quantize(weights, steps, states, rate))
    backends.forget()
    assert found[0].dtype == np.int8
    assert np.array_equal(found[0], found[1])
    for column in found[0].T:
        walk(column, states)


@pytest.mark.parametrize("states", [4, 8])
def test_the_result_is_pinned(states: int) -> None:
    """A weight is k/64 and a step a power of two, so that nothing is rounded: the choice among equal paths shows."""
    random = np.random.default_rng(5)
    weights = (random.integers(-200, 200, (50, 30)) / 64).astype(np.float32)
    values = trellis_quantize(weights, (2.0 ** random.integers(-4, -1, 50)).astype(np.float32), states, 0.0)
    pinned = {4: "b1586c2b27520362", 8: "d3fa40d9ad00d457"}
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == pinned[states]


@pytest.mark.parametrize("states", [4, 8])
def test_no_path_is_better(states: int) -> None:
    """Against every path of six rows whose integers are within 3 of the weight."""
    weights = gaussian(6, 8, seed=states) * 2
    steps = np.array([0.5, 0.3, 0.7, 0.2, 0.4, 1.0], np.float32)
    values = trellis_quantize(weights, steps, states)
    for weight, column in zip(weights.T, values.T, strict=True):
        middle = np.rint(weight / steps).astype(int)
        best = np.inf
        for branches in product(range(2), repeat=6):
            state, error = 0, 0.0
            for row, branch in enumerate(branches):
                subset = int(SUBSETS[states][state][branch])
                allowed = [q for q in range(middle[row] - 3, middle[row] + 4) if q % 4 == subset]
                error += min((weight[row] - q * steps[row]) ** 2 for q in allowed)
                state = (2 * state + branch) % states
            best = min(best, error)
        assert ((weight - column * steps) ** 2).sum() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(("states", "above"), [(4, 0.092), (8, 0.077)])
@pytest.mark.parametrize("step", [0.2, 0.35])
def test_near_the_bound_of_a_gaussian(states: int, above: float, step: float) -> None:
    """0.09 and 0.075 bits above it; a uniform quantizer of the same bits is 0.255 above."""
    weights = gaussian(800, 120)
    values = trellis_quantize(weights, np.full(800, step, np.float32), states, rate=1.0)
    error = np.square(weights - values * np.float32(step)).mean() / np.square(weights).mean()
    assert 0.05 < conditional_entropy(values, states) + np.log2(error) / 2 < above + 0.004


def test_the_rate_term_saves_bits_at_equal_error() -> None:
    weights = gaussian(600, 100)
    gaps = []
    for rate in (0.0, 1.0):
        values = trellis_quantize(weights, np.full(600, 0.4, np.float32), 8, rate)
        error = np.square(weights - values * np.float32(0.4)).mean()
        gaps.append(conditional_entropy(values, 8) + np.log2(error) / 2)
    assert gaps[1] < gaps[0] - 0.015


def test_weights_beyond_the_grid_go_to_its_ends() -> None:
    weights = np.array([[1e30, -1e30, 0.0]] * 3, np.float32)
    values = trellis_quantize(weights, np.full(3, 1e-30, np.float32))
    assert (np.abs(values[:, :2].astype(int)) >= 124).all()
    assert (values[:, 2] == 0).all()


@pytest.mark.parametrize(
    "variant",
    [
        torch.from_numpy,
        lambda w: torch.from_numpy(w.T.copy()).T,
        np.asfortranarray,
        lambda w: np.repeat(w, 2, axis=1)[:, ::2],
    ],
    ids=["torch", "torch strided", "Fortran order", "every second"],
)
def test_strides_and_torch(variant: Callable[[np.ndarray], np.ndarray]) -> None:
    weights, steps = gaussian(30, 40), np.full(30, 0.3, np.float32)
    given = variant(weights)
    found = trellis_quantize(given, steps)
    assert isinstance(found, type(given))
    assert np.array_equal(np.asarray(found), trellis_quantize(weights, steps))


def test_half_precision_steps_and_threads() -> None:
    weights, steps = gaussian(30, 400), np.full(30, 0.3, np.float16)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(trellis_quantize(weights, steps))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*found)
    assert np.array_equal(found[0], trellis_quantize(weights, steps.astype(np.float32)))


WITHOUT_MEMORY = """
import resource
import numpy as np
from golf_fast import _C
weights, steps = np.ones((1, 8, 5000), np.float32), np.ones((1, 8), np.float32)
values = np.empty((1, 8, 5000), np.int8)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
try:
    _C.trellis_quantize(*(a.ctypes.data for a in (weights, steps)), 0, 1, 8, 5000, 8, values.ctypes.data, threads=5000)
except (RuntimeError, MemoryError) as error:
    print("raised", type(error).__name__)
"""


@needs_extension
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="its size is read from /proc")
def test_threads_that_cannot_be_made_are_an_error() -> None:
    """The stacks of 5,000 threads do not fit into 200 MiB: the process must not be aborted."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("raised ")


def test_a_batch_is_its_matrices() -> None:
    weights = torch.from_numpy(gaussian(60, 40).reshape(3, 20, 40))
    steps = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) + 0.1
    shrink = trellis.shrink_of(weights, steps, 0.5)
    together = trellis.paths(weights, steps, 8, shrink)
    for each in range(3):
        assert torch.equal(together[each], trellis_quantize(weights[each], steps[each], 8, 0.5))


GOOD = gaussian(3, 4), np.full(3, 0.1, np.float32)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((GOOD[0].astype(np.float64), GOOD[1]), "weights: float64"),
        ((GOOD[0][0], GOOD[1]), r"float32 \[4\]"),
        ((GOOD[0], GOOD[1][:2]), r"steps: float32 \[2\]"),
        ((GOOD[0], np.ones(3, np.int64)), "steps: int64"),
        ((GOOD[0], np.array([1, 0, 1], np.float32)), r"steps: they hold 0\.0"),
        ((GOOD[0], np.array([1, 1, np.nan], np.float32)), "steps: they hold nan"),
        ((np.full((3, 4), np.inf, np.float32), GOOD[1]), "weights: they hold inf"),
        ((*GOOD, 16), "states: 16; it must be 4 or 8"),
        ((*GOOD, 8, -1.0), r"rate: -1\.0"),
        ((*GOOD, 8, np.inf), "rate: inf"),
    ],
)
def test_what_cannot_be_quantized(arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        trellis_quantize(*arguments)  # type: ignore[arg-type]


@needs_extension
@settings(max_examples=30)
@given(
    n=st.integers(1, 3),
    width=st.integers(1, 12),
    rows=st.integers(0, 30),
    states=st.sampled_from([4, 8]),
    rate=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_of_cpp_and_numpy_are_equal(n: int, width: int, rows: int, states: int, rate: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(n, width, rows, generator=generator)
    factor = torch.triu(torch.randn(n, width, width, generator=generator) * 0.3) + torch.eye(width)
    steps = torch.rand(n, rows, generator=generator) + 0.05
    shrink = trellis.shrink_of(weights.transpose(1, 2), steps, rate)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("native", "numpy"):
            patch.setenv(backends.VARIABLE, f"trellis={name}")
            backends.forget()
            found.append(trellis.path_block(weights.clone(), factor, steps, states, shrink))
    backends.forget()
    for cpp, numpy in zip(*found, strict=True):
        assert cpp.dtype == numpy.dtype
        assert torch.equal(cpp.view(torch.uint8), numpy.view(torch.uint8))
    values, errors = found[0]
    rounded = values[:, 0].float() * steps
    assert torch.allclose(errors[:, 0] * factor[:, 0, 0, None] + rounded, weights[:, 0], atol=1e-5)


def test_the_table_of_states_is_the_published_one() -> None:
    for states, subsets in SUBSETS.items():
        table = trellis_numpy.next_states(states)
        for state, both in enumerate(subsets):
            for branch, subset in enumerate(both):
                assert table[state, int(subset) >> 1] == (2 * state + branch) % states
