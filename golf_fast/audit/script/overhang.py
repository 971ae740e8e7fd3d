"""Slices that reach beyond the chunk that another slice from the same place on ends with."""

from __future__ import annotations

import ast
from collections import defaultdict

from golf_fast.audit.script.loops import own_nodes
from golf_fast.audit.script.tree import definitions

_Terms = frozenset[str]


def slices_beyond(tree: ast.Module) -> set[ast.AST]:
    """Slices such as `tokens[start : stop + length]` in functions that also have `tokens[start:stop]`."""
    found: set[ast.AST] = set()
    for scope in [tree, *definitions(tree)]:
        groups: defaultdict[tuple[str, str], list[tuple[_Terms, ast.AST]]] = defaultdict(list)
        for node in own_nodes(scope):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
                begin, end = _begin(node.slice.lower), _terms(node.slice.upper)
                if begin and end - {begin}:
                    groups[ast.unparse(node.value), begin].append((end, node))
        for ends in groups.values():
            found |= {node for end, node in ends if any(other < end for other, _ in ends)}
    return found


def _begin(node: ast.expr | None) -> str:
    """The name that a slice begins at, or one after it; "" for what is neither."""
    match node:
        case ast.Name(name) | ast.BinOp(ast.Name(name), ast.Add(), ast.Constant()):
            return name
        case _:
            return ""


def _terms(node: ast.expr | None) -> _Terms:
    """What a bound is the sum of, constants left out; of the smaller of two, the sum that is no length."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            return _terms(left) | _terms(right)
        case ast.Call(ast.Name("min"), [first, *_]):
            return _terms(first)
        case None | ast.Constant():
            return frozenset()
        case _:
            return frozenset({ast.unparse(node)})
