"""Blobs from strangers: both coders refuse the same ones, and read the same values in the rest."""

import numpy as np
import pytest
from helpers.rans_examples import (
    EXAMPLES,
    GENERAL,
    GLOBAL,
    alike,
    by_row,
    kind,
    needs_extension,
    on_a_trellis,
    rank1,
    use,
)

from golf_fast.compress.artifact import rans, rans_numpy
from golf_fast.ops import backends, extension


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
    "general": on_a_trellis(60, 16, 8, 0.3, 3, alike=0.5),
    "general without a template": on_a_trellis(40, 10, 4, 0.5, 4),
    "general without a trellis": alike(30, 20, 5),
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
