"""What a script's constants come to, and what is not computed because it may be huge."""

import ast

import pytest

from golf_fast.audit.script import expressions
from golf_fast.audit.script.machine import Machine
from golf_fast.audit.script.values import UNKNOWN


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 * 7 + 1", 22),
        ("1 << 10", 1024),
        ("'ab' * 3", "ababab"),
        ("'%05d.bin' % 7", "00007.bin"),
        ("'%9999999999d' % 1", UNKNOWN),
        ("b'%-9999999999d' % 1", UNKNOWN),
        ("'%.9999999999f' % 1.0", UNKNOWN),
        ("'%*d' % 1", UNKNOWN),
        ("'ab' * 9999999999", UNKNOWN),
        ("9999999999 * b'ab'", UNKNOWN),
        ("1 << 9999999999", UNKNOWN),
    ],
)
def test_constants(text: str, value: object) -> None:
    m = Machine({})
    m.evaluate = lambda node: expressions.evaluate(m, node)
    assert m.evaluate(ast.parse(text, mode="eval").body).constant == value
