"""The entropy coder: exact, near the entropy, equal in C++ and NumPy, and safe against blobs from strangers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.compress import trellis_quantize
from golf_fast.compress.artifact import rans, rans_numpy
from golf_fast.compress.integers import trellis_numpy
from golf_fast.ops import backends, extension

GOLDEN = Path(__file__).parent / "golden"
STORED, GLOBAL, ROW, RANK1, HISTOGRAM, GENERAL = range(6)

needs_extension = pytest.mark.skipif(extension.missing is not None, reason=f"{extension.missing}")


def use(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, f"rans={backend}")
    backends.forget()


@pytest.fixture(params=[pytest.param("native", marks=needs_extension), "numpy"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    use(request.param, monkeypatch)
    yield request.param
    backends.forget()


def clipped(values: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.rint(values), -(1 << bits - 1), (1 << bits - 1) - 1).astype(np.int8)


def rank1(rows: int, cols: int, bits: int, sigma: float, spread: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    scale = 2 ** (spread * random.normal(size=(rows, 1))) * 2 ** (spread * random.normal(size=cols))
    return clipped(random.normal(size=(rows, cols)) * sigma * scale, bits)


def by_row(rows: int, cols: int, bits: int, seed: int) -> np.ndarray:
    sigmas = 2.0 ** (1 + np.arange(rows) % 5)
    return clipped(np.random.default_rng(seed).normal(size=(rows, cols)) * sigmas[:, None], bits)


def on_a_trellis(rows: int, cols: int, states: int, step: float, seed: int, alike: float = 0.0) -> np.ndarray:
    """Quantized Gaussians of unequal scales, a share of the rows much alike."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(rows, cols)) * np.exp(0.3 * random.normal(size=(rows, 1)))
    members = random.random(rows) < alike
    weights[members] = random.normal(size=cols) + 0.1 * weights[members]
    return trellis_quantize(weights.astype(np.float32), np.full(rows, step, np.float32), states)


def alike(rows: int, cols: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, cols)) * 9
    values[::3] = random.normal(size=cols) * 9 + 0.5 * random.normal(size=values[::3].shape)
    return clipped(values, 6)


def kind(blob: bytes) -> int:
    return blob[0] & 15


def facts(blob: bytes) -> tuple[int, ...]:
    """Contexts, states, reach and whether there is a template, of a general model whose sides are below 128 or not."""
    at = 2
    for _ in range(2):
        while blob[at] & 128:
            at += 1
        at += 1
    return tuple(blob[at : at + 4])


EXAMPLES = {
    "0x0": (np.zeros((0, 0), np.int8), 6, STORED),
    "0x7": (np.zeros((0, 7), np.int8), 6, STORED),
    "7x0": (np.zeros((7, 0), np.int8), 6, STORED),
    "1x1": (np.full((1, 1), -3, np.int8), 5, STORED),
    "all equal": (np.full((90, 100), -32, np.int8), 6, HISTOGRAM),
    "zeros": (np.zeros((300, 300), np.int8), 8, GLOBAL),
    "uniform bytes": (np.random.default_rng(0).integers(-128, 128, (50, 60)).astype(np.int8), 8, STORED),
    "two far symbols": (np.random.default_rng(1).choice(np.array([-128, 127], np.int8), (80, 90)), 8, HISTOGRAM),
    "one sigma": (rank1(70, 70, 6, 7.0, 0.0, 2), 6, GLOBAL),
    "one row": (rank1(1, 5000, 5, 4.0, 0.0, 3), 5, GLOBAL),
    "one column": (rank1(5000, 1, 5, 4.0, 0.0, 3), 5, GLOBAL),
    "row sigmas": (by_row(40, 300, 7, 4), 7, ROW),
    "rank 1": (rank1(140, 150, 6, 5.0, 0.7, 5), 6, RANK1),
    "many lanes": (rank1(130, 257, 8, 20.0, 1.0, 6), 8, RANK1),
    "two bits": (rank1(60, 70, 2, 0.7, 0.0, 7), 2, GLOBAL),
    "extreme scales": (
        clipped(np.random.default_rng(8).normal(size=(60, 80)) * np.logspace(-4, 4, 80), 8),
        8,
        HISTOGRAM,
    ),
    "trellis": (on_a_trellis(150, 60, 8, 0.2, 9), 8, GENERAL),
    "trellis of 4 states": (on_a_trellis(90, 80, 4, 0.15, 10), 8, GENERAL),
    "trellis in five bits": (on_a_trellis(90, 80, 8, 0.5, 11), 5, GENERAL),
    "wide trellis": (on_a_trellis(30, 300, 8, 0.03, 12), 8, GENERAL),
    "narrow trellis": (on_a_trellis(4100, 3, 8, 0.2, 13), 8, GENERAL),
    "alike rows": (alike(90, 110, 14), 6, GENERAL),
    "trellis and alike rows": (on_a_trellis(200, 70, 8, 0.1, 15, alike=0.3), 8, GENERAL),
}


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
@settings(max_examples=150, deadline=None)
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


def verdict(blob: bytes) -> bytes | None:
    try:
        return rans.decode(blob).tobytes()
    except ValueError:
        return None


SMALL = ("1x1", "all equal", "one sigma", "row sigmas", "rank 1", "two bits", "trellis", "alike rows")


@pytest.mark.parametrize("name", SMALL)
def test_every_truncation_and_trailing_byte_is_refused(name: str, backend: str) -> None:
    blob = rans.encode(*EXAMPLES[name][:2])
    for size in [*range(min(len(blob), 200)), *range(max(len(blob) - 30, 0), len(blob))]:
        assert verdict(blob[:size]) is None
    for tail in (b"\0", b"\0\0", blob):
        assert verdict(blob + tail) is None


DAMAGED = {
    "stored": np.array([[-31, 4]], np.int8),
    "global": rank1(9, 30, 6, 7.0, 0.0, 2),
    "row": by_row(5, 60, 6, 0),
    "rank 1": rank1(12, 40, 6, 4.0, 2.0, 1),
    "histogram": np.random.default_rng(1).choice(np.array([-32, 31], np.int8), (20, 90)),
    "general": on_a_trellis(90, 24, 8, 0.3, 3, alike=0.5),
    "general without a template": on_a_trellis(60, 20, 4, 0.5, 4),
    "general without a trellis": alike(60, 40, 5),
}


@needs_extension
@pytest.mark.parametrize("name", DAMAGED)
def test_both_decoders_agree_on_damaged_blobs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bit flip in the first 60 bytes, and some behind: the same refusals, the same values where there are any."""
    blob = rans.encode(DAMAGED[name], 6)
    assert kind(blob) == min(list(DAMAGED).index(name), GENERAL)
    damaged = []
    for position in [*range(min(8 * len(blob), 480)), *range(480, 8 * len(blob), 97)]:
        changed = bytearray(blob)
        changed[position // 8] ^= 1 << position % 8
        rows, cols = shape_said(bytes(changed))
        if rows * cols < 8000:  # a flip in a side may declare a quarter of a billion values: allowed, and slow
            damaged.append(bytes(changed))
    verdicts = []
    for backend in ("native", "numpy"):
        use(backend, monkeypatch)
        verdicts.append([verdict(each) for each in damaged])
    backends.forget()
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].count(None) > len(damaged) * 0.5 or name == "stored"


def shape_said(blob: bytes) -> tuple[int, int]:
    try:
        return rans._shape_of(blob)
    except ValueError:
        return (0, 0)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x10",
        b"\x10\x06",
        b"\x10\x06\x01",
        b"\x20\x06\x00\x00",
        b"\x15\x06\x01\x01\x00",
        b"\x10\x01\x01\x01\x00",
        b"\x10\x09\x01\x01\x00",
        b"\x10\x06\x81\x00\x01\x00",
        b"\x10\x06\xff\xff\xff\xff\x7f\x01\x00",
        b"\x10\x06\x80\x80\x80\x80\x80\x01\x01\x00",
        b"\x10\x06\x00\xff\xff\xff\xff\x0f",
        b"\x10\x06\x01\x01\x20",
        b"\x10\x06\x01\x02\x00",
        b"\x11\x06\x00\x05\x00\x20\x00\x00\x01\x00",
        b"\x11\x06\x01\x01\x0a\x20\x00\x00\x01\x00",
        b"\x11\x06\x01\x01\x00\x48\x00\x00\x01\x00",
        b"\x11\x06\x01\x01\x00\x20\xff\xff\x00\x00",
        b"\x11\x06\x01\x01\x00\x20\x00\x00\x01\x00",
        b"\x14\x02\x01\x01\x08\x10\x08\x01\x04\x00\x00\x00\x00\x00\x00\x01\x00",
        b"\x14\x02\x01\x01\x08\x10\x08\x01\x04\xff\x00\x00\x00\x00\x00\x01\x00",
        b"\x12\x06\x01\x01\x00\x47\x05\x10\x08\x01\x01\x01\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x00\x08\x01\x00\x00\x20\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x04\x08\x01\x00\x00\x20\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x01\x10\x01\x00\x00\x20\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x01\x08\x00\x00\x00\x20\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x01\x08\x81\x00\x00\x20\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x01\x08\x01\x02\x00\x20\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x01\x08\x01\x01\x05\x10\x08\x01\x01\x00\x05\x10\x08\x01\x01\x02\x00\x20\x00\x00\x01\x00",
        b"\x15\x06\x01\x01\x01\x08\x01\x01\x05\x10\x08\x01\x01\x40\x05\x10\x08\x01\x01\x01\x00\x20\x00\x00\x01\x00",
        b"\x12\x06\x01\x01\x00\x00\x05\x14\x08\x01\x01\x00\x00\x00\x01\x00",
    ],
)
def test_blobs_that_no_encoder_writes(blob: bytes, backend: str) -> None:
    assert verdict(blob) is None


def test_a_blob_of_another_shape_is_refused_before_its_values_are_made(backend: str) -> None:
    """A few bytes may declare a quarter of a billion zeros: whoever expects fewer says so."""
    huge = bytes.fromhex("1408 808040 8002") + bytes(20)
    with pytest.raises(ValueError, match="must have"):
        rans.decode(huge, (3, 4))
    with pytest.raises(ValueError, match=r"\[4, 3\].*\[3, 4\]"):
        rans.decode(rans.encode(np.zeros((4, 3), np.int8), 6), (3, 4))


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
def test_sides_whose_product_wraps_are_too_many_values() -> None:
    side = rans_numpy._varint(1 << 32)
    blob = np.frombuffer(bytes([0x10, 8]) + side + side + bytes(16), np.uint8)
    values = np.zeros(16, np.int8)
    with pytest.raises(extension.C.RansMalformed, match="too many values"):
        extension.C.rans_decode(blob.ctypes.data, blob.size, values.ctypes.data, 0)


def over_a_template(residuals: list[int], template: list[int], bits: int, states: int = 0) -> bytes:
    """The blob of one row that is these residuals over a template, whatever they add up to."""
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    model = rans_numpy.Model(
        GENERAL, zero + 30, np.zeros(len(template), np.int64), contexts=GLOBAL, states=states, reach=128
    )._replace(template=np.array(template), members=one)
    stream = rans_numpy._encode_stream(np.array([residuals], np.int8), model, bits, 0)
    return rans_numpy._head(model, bits, (1, len(template)), 0) + stream


@pytest.mark.parametrize("states", [0, 4])
@pytest.mark.parametrize(
    ("bits", "residuals", "template"),
    [
        (8, [100, 2], [100, 0]),
        (8, [28, 2], [100, 0]),
        (8, [2, -128], [0, -2]),
        (8, [2, -128], [0, -128]),
        (7, [126, 2], [8, 0]),
        (7, [126, 2], [126, 0]),
        (7, [-128, 2], [-128, 2]),
        (2, [-126, 0], [-128, 0]),
    ],
)
def test_a_sum_that_wraps_is_refused(
    bits: int, residuals: list[int], template: list[int], states: int, backend: str
) -> None:
    with pytest.raises(ValueError, match="a value that its bits cannot hold"):
        rans.decode(over_a_template(residuals, template, bits, states))


@pytest.mark.parametrize("states", [0, 4])
def test_the_widest_sums_are_read(states: int, backend: str) -> None:
    blob = over_a_template([26, -128, -28], [100, 126, -100], 8, states)
    assert rans.decode(blob).tolist() == [[126, -2, -128]]


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
