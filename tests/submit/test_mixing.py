"""What is packed is unpacked, on every machine alike; what is damaged is refused."""

from __future__ import annotations

import hashlib
import random

import pytest

from golf_fast.submit.mixing import MOST, unpacked
from golf_fast.submit.pack import pack

TEXTS = {
    "empty": b"",
    "a byte": b"x",
    "repeated": b"def main(file):\n\treturn file\n" * 40,
    "another alphabet": "▁é☃".encode() * 30,
    "random": random.Random(1).randbytes(700),
    "one over the lanes": b"0123456789abcdef" * 2 + b"!",
}


@pytest.mark.parametrize("name", TEXTS)
def test_it_comes_back(name: str) -> None:
    packed = pack(TEXTS[name])
    assert not {*packed} & {*b'\0\r"\\'}
    assert unpacked(packed) == TEXTS[name]


def test_the_format_stays() -> None:
    """Another hash is another format: built files carry their own decoder, but this one must read them."""
    text = b"".join(b"for %d in range(%d):\n\tlines.append(%d * self.width)\n" % (k, k * k, 7 * k) for k in range(60))
    packed = pack(text)
    assert (len(text), len(packed)) == (3227, 476)
    assert hashlib.sha256(packed).hexdigest()[:16] == "b7521991c7ae914f"


def test_what_is_damaged_is_refused() -> None:
    packed = pack(TEXTS["repeated"])
    middle = len(packed) // 2
    changed = packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :]
    for damaged in (packed[:-2], packed[:-1], packed + b"aa", changed, packed[:4], packed[:3], b""):
        with pytest.raises((ValueError, IndexError)):
            unpacked(damaged)


def test_a_long_text_is_refused_before_anything_is_made() -> None:
    with pytest.raises(ValueError, match="no such length"):
        unpacked(b"\xff" * 100)
    with pytest.raises(ValueError, match=f"{MOST + 1:,} bytes are more"):
        pack(bytes(MOST + 1))
