"""Modules that become one: each name is that of its module, and what importing them runs runs in the same order."""

from __future__ import annotations

import ast

import pytest

from golf_fast.submit.merge import merged

SOURCES = {
    "mine": "order = []",
    "mine.entry": """
import math
import numpy as np
from mine import order, parts
from mine.parts import first, value as other
order.append('entry')
try:
    import nowhere as absent
except ImportError:
    absent = None
value = 1
def main(first_=2):
    from mine import late
    assert absent is None
    from mine.parts import second as chosen
    value = [first.value for chosen in [math.floor(2.5)]]
    return value, other, chosen.value, parts.second.of_first(), late.value, np.sum([1, 2]), first_
""",
    "mine.parts": "from mine import order\nfrom mine.parts.first import value\norder.append('parts')",
    "mine.parts.first": "import numpy as math\nfrom mine import order\norder.append('first')\nvalue = 'of first'",
    "mine.parts.second": """
from mine import order
from mine.parts import first
order.append('second')
value = 'of second'
def of_first(value_=first.value): return first.value + value_
""",
    "mine.late": "from mine import order\norder.append('late')\nvalue = 'of late'",
}


def program(**changed: str) -> ast.Module:
    sources = SOURCES | {f"mine.{name}": source for name, source in changed.items()}
    return merged({name: ast.parse(text) for name, text in sources.items()}, "mine.entry")


def test_it_does_what_the_modules_do() -> None:
    space: dict[str, object] = {}
    tree = program(entry=SOURCES["mine.entry"].replace("parts\nfrom", "parts\nfrom mine.parts import second\nfrom"))
    exec(compile(tree, "program", "exec"), space)
    main = space["main"]
    assert callable(main)
    assert main() == (["of first"], "of first", "of second", "of firstof first", "of late", 3, 2)
    assert ["first", "parts", "second", "entry", "late"] in space.values()


def test_no_import_of_its_own_is_left() -> None:
    imports = [node for node in ast.walk(program()) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert sorted(ast.unparse(node) for node in imports) == [
        "import math as math_",
        "import nowhere as absent_",
        "import numpy as numpy_",
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("from mine import parts\ndef main(): return parts", "the module parts is used as a value"),
        ("from mine import parts\ndef main(): return parts.third", "mine.parts has no third"),
        ("def main():\n from mine import parts as p\ndef f():\n from mine import order as p", "p is imported from two"),
    ],
)
def test_what_it_cannot_do_is_said(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        program(entry=source)
