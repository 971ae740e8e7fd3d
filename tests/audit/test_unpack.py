"""Scripts come out of their wrapping without being run."""

import base64
import bz2
import gzip
import lzma
import zlib
from pathlib import Path

import pytest

from golf_fast.audit.script import unpack
from golf_fast.errors import InputError

UTF7 = b"# coding: utf-7\n# +AAo-print(1)\n"
"""What is a comment in UTF-8 and a statement to Python."""
TEXT = 'import torch\nVOCAB = 1024\nprint("é", VOCAB)\n'
FILTERS = [{"id": lzma.FILTER_LZMA2}]


def b85(data: bytes) -> str:
    return base64.b85encode(data).decode()


def raw(text: str) -> bytes:
    return lzma.compress(text.encode(), lzma.FORMAT_RAW, filters=FILTERS)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


ZLIB = zlib.compress(TEXT.encode())
NO_TEXT = lzma.compress(b"\xff\xfe\xff")
BOMB = zlib.compress(bytes(unpack.MOST_BYTES + 1))
LZMA = lzma.compress(TEXT.encode())
BZ2 = bz2.compress(TEXT.encode())
WRAPPED = {
    "lzma, base85": f"import lzma as L,base64 as B\nexec(L.decompress(B.b85decode({b85(LZMA)!r})))",
    "raw lzma": f"import lzma as L,base64 as B\n__wrapper_size__=1\nexec(L.decompress(B.b85decode({b85(raw(TEXT))!r}),"
    'format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))',
    "zlib, base64": f"import zlib,base64;exec(zlib.decompress(base64.b64decode({b64(ZLIB)!r})).decode())",
    "bytes": f"import zlib\nexec(zlib.decompress({ZLIB!r}))",
    "gzip and a name": "from gzip import decompress\nfrom base64 import b85decode\n"
    f"DATA = {b85(gzip.compress(TEXT.encode()))!r}\nexec(compile(decompress(b85decode(DATA)), 'x', 'exec'))",
    "bz2 in two pieces": f"import bz2\nexec(bz2.decompress({BZ2[:20]!r} + {BZ2[20:]!r}))",
}


def read(tmp_path: Path, text: str) -> unpack.Source:
    path = tmp_path / "train_gpt.py"
    path.write_text(text, encoding="utf-8")
    return unpack.read(path)


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_each_wrapping(tmp_path: Path, wrapping: str) -> None:
    source = read(tmp_path, WRAPPED[wrapping])
    assert source.text == TEXT
    assert source.code_bytes == len(WRAPPED[wrapping].encode())
    assert len(source.layers) == 1


def test_two_layers_and_the_usual_names(tmp_path: Path) -> None:
    inner = WRAPPED["zlib, base64"]
    outer = f"import zlib\nexec(zlib.decompress({zlib.compress(inner.encode())!r}))"
    source = read(tmp_path, outer)
    assert source.text == TEXT
    assert source.layers == ("zlib", "zlib, base64")


def test_brotli(tmp_path: Path) -> None:
    brotli = pytest.importorskip("brotli")
    assert read(tmp_path, f"import brotli\nexec(brotli.decompress({brotli.compress(TEXT.encode())!r}))").text == TEXT


def test_the_file_beside_is_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "train_gpt_decode.py").write_text(TEXT, encoding="utf-8")
    wrapper = 'exec(open(__file__.replace("train_gpt.py","train_gpt_decode.py")).read())'
    source = read(tmp_path, wrapper)
    assert source.text == TEXT
    assert source.code_bytes == len(wrapper) + len(TEXT.encode())


def test_nothing_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    evil = f"open({str(witness)!r}, 'w').write('x')\n"
    read(tmp_path, f"import zlib\nexec(zlib.decompress({zlib.compress(evil.encode())!r}))\n{evil}")
    assert not witness.exists()


def test_a_script_with_code_of_its_own_is_read_as_it_stands(tmp_path: Path) -> None:
    text = "def main():\n    pass\n\n\nexec('main()')\n"
    assert read(tmp_path, text).text == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import zlib\nexec(zlib.decompress(b'abc'))", "cannot be decoded by decompress"),
        ("import base64 as B\nexec(B.b64decode('abc'))", "cannot be decoded by b64decode"),
        (f"import lzma\nexec(lzma.decompress({NO_TEXT!r}))", "does not contain text"),
        (f"import zlib\nexec(zlib.decompress({BOMB!r}))", "more than 8,000,000"),
        ("def f(:\n", "not Python, line 1"),
        ("\x00", "not Python"),
        ("(" * 5000 + ")" * 5000, "not Python"),
        ("# coding: utf-7\n# +AAo-print(1)\n", "encoding is utf-7"),
        ("# coding: nothing\nx = 1\n", "unknown encoding"),
        (f"import zlib\nexec(zlib.decompress({zlib.compress(UTF7)!r}))", "encoding is utf-7"),
        ("import zlib\nexec(zlib.decompress('\\ud800'))", "cannot be decoded"),
    ],
    ids=[
        *("damaged", "no base64", "no text", "bomb", "syntax", "null", "nested"),
        *("utf-7", "unknown encoding", "utf-7 inside", "surrogate"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        unpack.read(tmp_path / "nothing.py")
    path = tmp_path / "binary.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        unpack.read(path)
    path.write_bytes(b"#" * (unpack.MOST_BYTES + 1))
    with pytest.raises(InputError, match="is larger than 8,000,000"):
        unpack.read(path)


def test_more_layers_than_are_taken_off_are_an_error_and_no_verdict(tmp_path: Path) -> None:
    text = TEXT
    for _ in range(unpack.MOST_LAYERS + 1):
        text = f"import zlib\nexec(zlib.decompress({zlib.compress(text.encode())!r}))"
    with pytest.raises(InputError, match=f"wrapped more than {unpack.MOST_LAYERS} times"):
        read(tmp_path, text)
