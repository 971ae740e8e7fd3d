"""Short names: one for one everywhere, and none for what others ask for by name."""

from __future__ import annotations

import ast
import warnings

from golf_fast.submit import rename
from golf_fast.submit.rename import renamed

PROGRAM = """
import os
from dataclasses import dataclass

@dataclass
class Written:
    field_of_it: int

class Keeps(BaseOfIt):
    def compute(self, first_value, second_value):
        self.inner_value = helper_function(first_value, keyword_value=second_value)
        return os.path.join(unknown(handed_on=1), 'quoted_name')
    def quoted_name(self): ...

def takes(handed_on): return handed_on
@triton.jit
def kernel(quoted_name, other_argument): return quoted_name + other_argument
def helper_function(value, keyword_value): return value + keyword_value
def join(open_value, **rest): return rest
answer_value = join(open_value=1, free_value=helper_function(1, keyword_value=2))

def outer(number):
    def inner(letter):
        nonlocal total
        total += number + letter
        return [total for number in range(letter)]
    total = sum(number for number in range(number))
    return inner(2), total, (lambda letter, other=number: letter + other)(1)

def main():
    global answer_value
    answer_value = {'answer': answer_value, 'outer': outer(4)}
"""


def names(tree: ast.AST) -> set[str]:
    return {
        str(getattr(node, name))
        for node in ast.walk(tree)
        for name in ("id", "attr", "arg", "name", "asname")
        if isinstance(getattr(node, name, None), str)
    }


def test_what_others_ask_for_keeps_its_name() -> None:
    left = names(renamed(ast.parse(PROGRAM)))
    assert not left & {"helper_function", "Keeps", "Written", "compute", "inner_value", "keyword_value", "first_value"}
    assert not left & {"takes", "kernel", "other_argument", "answer_value", "outer", "inner", "letter", "total"}
    assert left >= {"os", "path", "join", "field_of_it", "unknown", "handed_on", "quoted_name", "main"}
    assert left >= {"free_value", "BaseOfIt"}


def test_the_program_is_the_same() -> None:
    program = PROGRAM.replace("BaseOfIt", "object").replace("@triton.jit", "")
    space: dict[str, object] = {}
    exec(compile(renamed(ast.parse(program + "\nmain()")), "program", "exec"), space)
    assert {"answer": {"free_value": 3}, "outer": ([12, 12], 12, 5)} in space.values()


def test_it_is_the_same_each_time() -> None:
    assert ast.dump(renamed(ast.parse(PROGRAM))) == ast.dump(renamed(ast.parse(PROGRAM)))


def test_names_of_others_are_asked_without_a_word() -> None:
    with warnings.catch_warnings(action="error"):
        assert "all_reduce" in rename._of_others.__wrapped__(("torch.distributed",))
