"""Minifies sources without changing their meaning."""

from __future__ import annotations

import ast

import python_minifier


def minified(tree: ast.Module) -> str:
    """The minified source of a module, ASCII if possible; the tree is changed."""
    text: str = python_minifier.unparse(ast.parse(ast.unparse(_Shorter().visit(tree))))
    return _ascii(text)


def minified_alone(tree: ast.Module, *kept: str) -> str:
    """The minified source of a standalone module without annotations, in which only the names `kept` are not
    renamed."""
    body = [each for each in tree.body if not _is_of_types(each)]
    text: str = python_minifier.minify(
        ast.unparse(ast.Module(body, [])),
        remove_literal_statements=True,
        hoist_literals=False,
        rename_globals=True,
        preserve_globals=list(kept),
    )
    return text


def _is_of_types(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.module in ("__future__", "typing")
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"


def _ascii(source: str) -> str:
    """The source with non-ASCII characters escaped, if they are in literals that support escapes."""
    escaped = source.encode("ascii", "backslashreplace").decode()
    if escaped == source:
        return source
    return escaped if ast.dump(ast.parse(escaped)) == ast.dump(ast.parse(source)) else source


class _Shorter(ast.NodeTransformer):
    """Replaces statements by shorter equivalents."""

    def visit_Pass(self, node: ast.Pass) -> ast.AST:
        return ast.Expr(ast.Constant(0))

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if isinstance(node.value, ast.Constant) and node.value.value is None:
            node.value = None
        return self.generic_visit(node)
