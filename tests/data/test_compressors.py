import lzma
import random

import pytest
import zstandard

from golf_fast.data import byte_compressors


def text(seed: int, size: int) -> bytes:
    letters = random.Random(seed)
    return bytes(letters.choices(b"etaoin shrdlu\n", k=size))


def test_the_validation_text_alone() -> None:
    val = text(0, 3000)
    zstd, xz = byte_compressors(None, val)
    assert (zstd.name, xz.name) == ("zstd -22", "xz -9e")
    assert xz.bits_per_byte == len(lzma.compress(val, preset=9 | lzma.PRESET_EXTREME)) * 8 / 3000
    assert zstd.bits_per_byte == pytest.approx(len(zstandard.compress(val, 22)) * 8 / 3000, abs=0.05)
    assert zstd.seconds > 0


def test_after_a_training_text_that_holds_it_nothing_is_left() -> None:
    val, between = text(0, 3000), text(1, 60_000)
    results = {result.name: result.bits_per_byte for result in byte_compressors(val + between, val)}
    assert list(results) == [
        "zstd -22",
        "xz -9e",
        "zstd -22 after the training text",
        "xz -9e after the training text",
    ]
    for name in ("zstd -22", "xz -9e"):
        assert results[name] > 3
        assert results[f"{name} after the training text"] < 0.1
