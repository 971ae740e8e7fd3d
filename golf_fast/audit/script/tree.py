"""Questions that patterns ask of a syntax tree."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@functools.lru_cache(maxsize=1 << 16)
def nodes(tree: ast.AST) -> list[ast.AST]:
    """All nodes of a tree, itself included; kept, for the patterns ask again and again. `forget` empties that."""
    return list(ast.walk(tree))


def forget() -> None:
    """Let go of the trees that were looked at."""
    nodes.cache_clear()


def definitions(tree: ast.AST) -> Iterator[Definition]:
    """The functions that are defined anywhere in it."""
    for node in nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def last_name(node: ast.AST) -> str:
    """The name of a function or attribute without what is before its last dot."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.AST, *wanted: str) -> list[ast.Call]:
    """Calls of functions and methods with one of the names."""
    return [node for node in nodes(tree) if isinstance(node, ast.Call) and last_name(node) in wanted]


def names_in(node: ast.AST) -> set[str]:
    """The plain names that are read or written."""
    return {child.id for child in nodes(node) if isinstance(child, ast.Name)}


def outside(tree: ast.Module) -> ast.Module:
    """The statements of a script outside of its functions and classes, whose short names mean other things there."""
    return ast.Module([each for each in tree.body if not isinstance(each, Definition | ast.ClassDef)], [])
