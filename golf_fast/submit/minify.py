"""Sources as short as they can be without another meaning."""

from __future__ import annotations

import ast
from functools import lru_cache

import python_minifier
from python_minifier.transforms.remove_annotations_options import RemoveAnnotationsOptions

_KEEP = RemoveAnnotationsOptions(
    remove_variable_annotations=False,
    remove_return_annotations=False,
    remove_argument_annotations=False,
    remove_class_attribute_annotations=False,
)
_READ_AS_SOURCE = ("jit", "custom_op")
"""Decorators whose functions are read as source or by their signature: no name in their modules is changed."""


def minified(tree: ast.Module) -> str:
    """The source of a module, its local names shortened where nobody reads them.

    `golf_fast.submit.sources` has taken out already what no run looks at.
    """
    annotated = any(isinstance(node, ast.AnnAssign) or getattr(node, "annotation", None) for node in ast.walk(tree))
    body = [each for each in tree.body if annotated or not _is_future(each)]
    read = any(
        any(word in ast.unparse(decorator) for word in _READ_AS_SOURCE)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    )
    return _minified(ast.unparse(ast.Module(body, [])), not read)


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


@lru_cache(maxsize=1024)
def _minified(source: str, rename: bool) -> str:
    text: str = python_minifier.minify(
        source,
        remove_annotations=_KEEP,
        hoist_literals=False,
        rename_locals=rename,
        convert_posargs_to_args=False,
        constant_folding=rename,
        remove_dead_branches=False,
    )
    return text
