"""Fields of a configuration that no run changes become constants; no other member and no other field does."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

import pytest

from golf_fast.submit.constants import inlined
from golf_fast.submit.fold import folded


@dataclass(frozen=True)
class Inner:
    width: int = 4
    kind: str = "plain"
    rates: tuple[float, ...] = (0.5, -1.0)
    limit: float = 2.0
    bits: int = 6
    shared: int = 1
    loops: int = 2

    @property
    def total(self) -> int:
        return self.width * sum(1 for _ in range(self.loops))

    @property
    def doubled(self) -> float:
        return self.limit * 2


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    seed: int = 42
    mode: str = "fast"


CLASSES = """
@dataclass(frozen=True)
class Inner_:
    width: int = 4
    kind: int = 'plain'
    rates: int = (0.5, -1.0)
    limit: int = 2.0
    bits: int = 6
    shared: int = 1
    loops: int = 2
    @property
    def total(self): return self.width * sum(1 for _ in range(self.loops))
    @property
    def doubled(self): return self.limit * 2
@dataclass(frozen=True)
class Outer_:
    inner: int = field(default_factory=Inner_)
    seed: int = 42
    mode: int = 'fast'
"""


def result(program: str) -> str:
    config = Outer(Inner(width=8, kind="special", loops=3))
    tree = folded(inlined(ast.parse(CLASSES + program), config, frozenset({"seed"})))
    return "\n".join(ast.unparse(each) for each in tree.body[2:])


@pytest.mark.parametrize(
    ("program", "left"),
    [
        ("f(c.inner.width, c.inner.rates)", "f(8, (0.5, -1.0))"),
        ("if c.kind == 'plain':\n    a()\nelse:\n    b(c)", "b(c)"),
        ("x = c.total", "x = 24"),
        ("x = c.seed", "x = c.seed"),
        ("x = f().width", "x = f().width"),
        ("x = c.inner", "x = c.inner"),
        ("x = c.limit, c.doubled\ny = replace(c, limit=3.0)", "x = (c.limit, c.doubled)\ny = replace(c, limit=3.0)"),
        ("x = c.limit, c.width\ny = Inner_(8)", "x = (c.limit, c.width)\ny = Inner_(8)"),
        ("x = c.mode\nclass Other:\n    mode = 1", "x = c.mode\nclass Other:\n    mode = 1"),
        ("x = c.shared\ny.shared = 2", "x = c.shared\ny.shared = 2"),
    ],
)
def test_what_no_run_changes_is_put_in(program: str, left: str) -> None:
    assert result(program) == left


def test_keys_of_what_is_unpacked_change() -> None:
    program = "WIDTHS = {'a': 'bits'}\nNAMES = tuple(WIDTHS.values())\nx = c.bits, c.loops\n"
    assert "x = (6, 3)" in result(program)
    assert "x = (c.bits, 3)" in result(program + "def f(c): return dataclasses.replace(c, **{n: 8 for n in NAMES})")
