"""Sources as short as they can be without another meaning."""

from __future__ import annotations

import ast

import python_minifier


def minified(tree: ast.Module) -> str:
    """The source of a module in as few characters as Python reads it in; the tree is changed."""
    text: str = python_minifier.unparse(ast.parse(ast.unparse(_Shorter().visit(tree))))
    return text


class _Shorter(ast.NodeTransformer):
    """Other words for the same."""

    def visit_Pass(self, node: ast.Pass) -> ast.AST:
        return ast.Expr(ast.Constant(0))

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if isinstance(node.value, ast.Constant) and node.value.value is None:
            node.value = None
        return self.generic_visit(node)
