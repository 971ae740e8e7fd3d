"""Short names: one for one everywhere, and none for what others ask for by name."""

from __future__ import annotations

import ast
import warnings

from golf_fast.submit import rename
from golf_fast.submit.rename import renamed

ONE = """
import os
from dataclasses import dataclass
from mine.two import helper_function, helper_function as other_name

@dataclass
class Written:
    field_of_it: int

class Keeps(BaseOfIt):
    def compute(self, first_value, second_value):
        self.inner_value = helper_function(first_value, keyword_value=second_value)
        return os.path.join(unknown(handed_on=1), 'quoted_name')

def quoted_name(handed_on): ...
"""
TWO = """
def helper_function(value, keyword_value): return value + keyword_value
def join(open_value, **rest): return rest
answer_value = join(open_value=1, free_value=helper_function(1, keyword_value=2))
"""


def names(tree: ast.AST) -> set[str]:
    return {
        str(getattr(node, name))
        for node in ast.walk(tree)
        for name in ("id", "attr", "arg", "name", "asname")
        if isinstance(getattr(node, name, None), str)
    }


def test_a_name_is_changed_in_all_modules_or_in_none() -> None:
    one, two = renamed([ast.parse(ONE), ast.parse(TWO)], "mine")
    left = names(one) | names(two)
    assert not left & {"helper_function", "other_name", "Keeps", "compute", "inner_value", "keyword_value"}
    assert left >= {"os", "path", "join", "field_of_it", "unknown", "handed_on", "quoted_name"}
    assert left >= {"open_value", "free_value", "BaseOfIt"}
    (imported,) = (node for node in one.body if isinstance(node, ast.ImportFrom) and node.module == "mine.two")
    defined = two.body[0]
    assert isinstance(defined, ast.FunctionDef)
    assert [alias.name for alias in imported.names] == [defined.name] * 2


def test_the_program_is_the_same() -> None:
    (two,) = renamed([ast.parse(TWO)], "mine")
    space: dict[str, object] = {}
    exec(compile(two, "two", "exec"), space)
    assert {"free_value": 3} in space.values()


def test_it_is_the_same_each_time() -> None:
    trees = [ast.parse(ONE), ast.parse(TWO)]
    assert [ast.dump(tree) for tree in renamed(trees, "mine")] == [ast.dump(tree) for tree in renamed(trees, "mine")]


def test_names_of_others_are_asked_without_a_word() -> None:
    with warnings.catch_warnings(action="error"):
        assert "all_reduce" in rename._of_others.__wrapped__(("torch.distributed",))
