"""Constant folding and dead-code elimination: removes branches whose tests are constants, and code after a return."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, TypeVar

_Node = TypeVar("_Node", bound=ast.AST)
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda value, held: value in held,
    ast.NotIn: lambda value, held: value not in held,
}
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def folded(tree: _Node) -> _Node:
    """Fold constants in a program and remove unreachable code, in place."""
    changed: _Node = Folder().visit(tree)
    return changed


class NotConstantError(Exception):
    """An expression is not constant."""


def value_of(node: ast.expr) -> Any:
    """The value of a constant expression.

    Raises:
        NotConstantError: the expression is not constant.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(value_of(each) for each in node.elts)
    raise NotConstantError


class Folder(ast.NodeTransformer):
    """Folds constant tests; code with possible side effects is removed only if it is unreachable."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        node.test = self.visit(node.test)
        try:
            chosen = node.body if value_of(node.test) else node.orelse
        except NotConstantError:
            return self.generic_visit(node)
        found: list[ast.stmt] = []
        for statement in chosen:
            changed = self.visit(statement)
            found += changed if isinstance(changed, list) else [changed] if changed is not None else []
        return found

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        try:
            return node.body if value_of(node.test) else node.orelse
        except NotConstantError:
            return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant | ast.Tuple):
            try:
                return ast.copy_location(ast.Constant(not value_of(node.operand)), node)
            except NotConstantError:
                return node
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        decides = isinstance(node.op, ast.Or)
        values: list[ast.expr] = []
        for place, each in enumerate(node.values):
            try:
                decided = bool(value_of(each)) == decides
            except NotConstantError:
                values.append(each)
                continue
            if decided or place == len(node.values) - 1:  # the last operand is the result, whatever its value
                values.append(each)
            if decided:
                break
        if len(values) == 1:
            return values[0]
        node.values = values
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        try:
            values = [value_of(each) for each in (node.left, *node.comparators)]
        except NotConstantError:
            return node
        pairs = zip(node.ops, values, values[1:], strict=False)
        result = all(_COMPARISONS[type(op)](left, right) for op, left, right in pairs)
        return ast.copy_location(ast.Constant(result), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        yields = _yields(node)
        self.generic_visit(node)
        if yields and not _yields(node):  # without a yield it would no longer be a generator
            node.body.append(ast.Expr(ast.Yield()))
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for place in ("body", "orelse", "finalbody"):
            block = getattr(node, place, None)
            if not isinstance(block, list) or isinstance(node, ast.Lambda):
                continue
            ends = [at for at, each in enumerate(block) if isinstance(each, _ENDS)]
            if ends:
                del block[ends[0] + 1 :]
            if place == "body" and not block and not isinstance(node, ast.Module):
                block.append(ast.Pass())
        return node


def _yields(node: ast.FunctionDef) -> bool:
    """Whether a function contains a yield; one in a nested function counts too, which is harmless."""
    return any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node))
