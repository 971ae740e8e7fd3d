"""Inlines configuration fields that have the same value in every run of a program built for one configuration.

A field is identified by its name, which requires that no other class of the program and nothing that it imports has a
member of that name, and that nothing in the program makes a configuration with another value. A property of a
configuration is a constant if it depends on constants only.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
from collections.abc import Iterator, Set
from typing import Any

from golf_fast.submit.scopes import last_name

_PROPERTIES = ("property", "cached_property")
_PLAIN = (ast.Attribute, ast.Name, ast.expr_context)


def inlined(tree: ast.Module, config: Any, changing: Set[str]) -> ast.Module:
    """Replace fields of the configuration in a program by constants, in place.

    Args:
        tree: a module that contains all classes of the configuration, whose names may have `_` appended.
        config: the configuration that the program makes, a dataclass of dataclasses.
        changing: names whose value may differ between runs, or that are members of objects outside the program.
    """
    changed = _Inliner(_constants(tree, config, changing)).visit(tree)
    assert isinstance(changed, ast.Module)
    return changed


def _parts(config: Any) -> Iterator[Any]:
    """A dataclass and those within it."""
    yield config
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value):
            yield from _parts(value)


def _constants(tree: ast.Module, config: Any, changing: Set[str]) -> dict[str, ast.expr]:
    parts = {type(part).__name__: part for part in _parts(config)}
    classes: dict[str, ast.ClassDef] = {}
    elsewhere = {*changing, *_unpacked(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            if (name := node.name.rstrip("_")) in parts:
                classes[name] = node
            else:
                elsewhere |= _members(node)
        else:
            elsewhere |= _changed(node, parts)
    values: dict[str, Any] = {}
    for name in classes:
        for part in dataclasses.fields(parts[name]):
            value = getattr(parts[name], part.name)
            if values.setdefault(part.name, value) is not value:
                elsewhere.add(part.name)  # a field of two classes
    found = {name: literal for name, value in values.items() if name not in elsewhere and (literal := _literal(value))}
    fields, grown = set(values), True
    while grown:
        grown = False
        for name, node in classes.items():
            for each in node.body:
                if not isinstance(each, ast.FunctionDef) or each.name in {*found, *fields, *elsewhere}:
                    continue
                if _decided(each, found) and (literal := _literal(getattr(parts[name], each.name))):
                    found[each.name] = literal
                    grown = True
    return found


def _members(node: ast.ClassDef) -> set[str]:
    """The members that a class body defines."""
    found = set[str]()
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            found.add(each.name)
        elif isinstance(each, ast.Assign | ast.AnnAssign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            found.update(inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name))
    return found


def _changed(node: ast.AST, parts: dict[str, Any]) -> set[str]:
    """Members to which a part of the program may assign a value other than that of the configuration."""
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return {node.attr}
    if isinstance(node, ast.Call):
        called = last_name(node.func).rstrip("_")
        if called in parts and (node.args or node.keywords):
            return {each.name for each in dataclasses.fields(parts[called])}
        if called in ("replace", "_replace", "setattr"):
            return {each.arg for each in node.keywords if each.arg}
    return set()


def _unpacked(tree: ast.Module) -> set[str]:
    """Strings that may be keys of a dictionary that is unpacked for `replace`."""
    of_module = {
        ast.unparse(target): statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    }
    found, seen = set[str](), set[str]()
    nodes: list[ast.AST] = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and _unpacks(each)]
    while nodes:
        for node in ast.walk(nodes.pop()):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.Name) and node.id in of_module and node.id not in seen:
                seen.add(node.id)
                nodes.append(of_module[node.id])
    return found


def _unpacks(function: ast.FunctionDef) -> bool:
    """Whether a function unpacks a dictionary for `replace`."""
    return any(
        last_name(node.func).rstrip("_") == "replace" and any(not each.arg for each in node.keywords)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    )


def _decided(function: ast.FunctionDef, constants: dict[str, ast.expr]) -> bool:
    """Whether a method is a property that depends only on constants and built-in functions."""
    if not any(last_name(each).rstrip("_") in _PROPERTIES for each in function.decorator_list):
        return False
    own = function.args.args[0].arg
    bound = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    asked = {id(node.value): node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    for node in [inner for each in function.body for inner in ast.walk(each)]:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id == own and asked.get(id(node)) not in constants:
                return False
            if node.id != own and node.id not in bound and not hasattr(builtins, node.id):
                return False
    return True


def _literal(value: Any) -> ast.expr | None:
    """The syntax tree of a plain value; None if it is not plain."""
    if value is None or isinstance(value, bool | str):
        return ast.Constant(value)
    if isinstance(value, int | float) and abs(value) < float("inf"):
        return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))
    if isinstance(value, tuple):
        inner = [literal for each in value if (literal := _literal(each))]
        return ast.Tuple(inner, ast.Load()) if len(inner) == len(value) else None
    return None


class _Inliner(ast.NodeTransformer):
    def __init__(self, constants: dict[str, ast.expr]) -> None:
        self.constants = constants

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr in self.constants and all(isinstance(each, _PLAIN) for each in ast.walk(node)):
            return ast.copy_location(ast.parse(ast.unparse(self.constants[node.attr]), mode="eval").body, node)
        return self.generic_visit(node)
