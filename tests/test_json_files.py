"""One reader of JSON: what it refuses is named with file and line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_fast import json_files
from golf_fast.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(VALUES)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert json_files.parse(json.dumps(value, ensure_ascii=False), "here") == value
    assert json_files.parse(json.dumps(value).encode(), "here") == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a": ' + b"7" * 5000 + b"}", r"^f: holds a whole number of 5000 digits; at most 64 bits are read$"),
        (b"18446744073709551616", r"^f: holds a whole number of 20 digits"),
        (b"[" * 65 + b"]" * 65, r"^f: is nested more than 64 deep$"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, r"^f: is nested more than 64 deep$"),
        (b"[" * 200_000, r"^f: is nested more than 64 deep$"),
        (b"[1e999]", r"^f: holds the number 1e999, which is beyond every float64$"),
        (b"[NaN]", r"^f: holds NaN, which is no number in JSON$"),
        (b"[-Infinity]", r"^f: holds -Infinity"),
        (b'{"a": 1, "a": 2}', r"^f: holds an object with 'a' twice$"),
        (
            json.dumps({str(i): 0 for i in range(50_000)})[:-1].encode() + b', "7": 1}',
            r"^f: holds an object with '7' twice$",
        ),
        (b'{\n"a": \n}', r"^f: line 3: is not JSON"),
        (b"", r"^f: is not JSON"),
        (b'{"a":\n"\xff"}', r"^f: line 2: is not UTF-8 at byte 7 \(0xff\)$"),
    ],
)
def test_what_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        json_files.parse(text, "f")
    assert "\n" not in str(caught.value)


def test_what_is_just_allowed() -> None:
    assert json_files.parse("[" * 64 + "]" * 64, "f") is not None
    assert json_files.parse("[18446744073709551615, -9223372036854775808]", "f") == [2**64 - 1, -(2**63)]
    assert json_files.parse(b"\xef\xbb\xbf{}", "f") == {}


def test_numbers_that_mean_nothing_are_let_be() -> None:
    text = '{"text": "x", "id": ' + "7" * 5000 + ', "loss": NaN, "text": "y"}'
    assert json_files.parse(text, "f", numbers=False)["text"] == "y"


def test_an_object_is_asked_for_and_named(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    for text, kind in (
        ("[]", "a list"),
        ("3", "a number"),
        ("null", "null"),
        ("true", "true or false"),
        ('""', "a text"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=rf"it\.json: holds {kind}, where an object is due; it is needed"):
            json_files.read_object(path, "it is needed")
    path.write_text('{"a": 1}')
    assert json_files.read_object(path, "it is needed") == {"a": 1}
    with pytest.raises(InputError, match=r"larger than 5 bytes"):
        json_files.read_object(path, "it is needed", most=5)


def test_lines_are_numbered_and_half_a_line_may_be_left(tmp_path: Path) -> None:
    path = tmp_path / "it.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n{"a"')
    assert list(json_files.lines(path, "it is needed", whole=False)) == [(1, {"a": 1}), (3, {"a": 2})]
    with pytest.raises(InputError, match=r"it\.jsonl: line 4: is not JSON"):
        list(json_files.lines(path, "it is needed"))


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "score", "start": 0, "stop": 62, "ranges": [[0, 3], [7, 9]], "s": true, "x": null, "y": -1.5e3}',
        b'{"a": 1, "a": 2}',
        b'{"a" : 1, "a": 2}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a:b": 1, "c": "d:e"}',
        b'{"a": 18446744073709551616}',
        b'{"a": -9223372036854775809}',
        b'{"a": 9223372036854775807}',
        b'{"a": 1e999}',
        b'{"a": NaN}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": 01}',
        b'{"a": 1} x',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"a": ' + b"[" * 99999 + b"]" * 99999 + b"}",
        b'{"a": ' + b"[ " * 70 + b"] " * 70 + b"}",
        b'{"a": ' + b"[1, " * 70 + b"1" + b", 1]" * 70 + b"}",
        b'{"a": [1.0, [2.0, 1e17]], "b": -0.0}',
        b"[1]",
        b"",
        b"{}",
        b'"text"',
    ],
    ids=lambda line: line[:30].decode("latin-1"),
)
def test_what_is_read_quickly_is_what_is_read_strictly(line: bytes) -> None:
    found = json_files.quick(line)
    if found is not None:
        assert found == json_files.parse(line, "here")
        assert repr(found) == repr(json_files.parse(line, "here"))


def test_a_usual_line_is_read_quickly() -> None:
    assert json_files.quick(b'{"event": "score", "start": 3, "tokens": "00ff"}') is not None
    assert json_files.quick(b'{"event": "train", "ranges": [[0, 48], [96, 144]], "scored": true}') is not None
