"""What can never be reached goes; what is left does the same."""

from __future__ import annotations

import ast

import pytest

from golf_fast.submit.fold import folded


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("if 1 == 2:\n    a()\nelif x:\n    b()\nelse:\n    c()", "if x:\n    b()\nelse:\n    c()"),
        ("if not 'native' != 'native' and x:\n    a()", "if x:\n    a()"),
        ("a = b if None is None else c", "a = b"),
        ("a = x or True or y", "a = x or True"),
        ("a = x and (2 in (1, 2)) and y", "a = x and y"),
        ("a = () or x", "a = x"),
        ("def f():\n    if True:\n        return 1\n    return g()", "def f():\n    return 1"),
        ("def f():\n    if False:\n        a()", "def f():\n    pass"),
        ("while x:\n    break\n    a()", "while x:\n    break"),
        ("a = f() if g() else h()", "a = f() if g() else h()"),
        ("a = not x < 1", "a = not x < 1"),
    ],
)
def test_constants_decide(source: str, left: str) -> None:
    assert ast.unparse(folded(ast.parse(source))) == left


def test_a_generator_stays_one() -> None:
    space: dict[str, object] = {}
    exec(compile(ast.fix_missing_locations(folded(ast.parse("def f():\n    return\n    yield"))), "f", "exec"), space)
    made = space["f"]
    assert callable(made)
    assert list(made()) == []
