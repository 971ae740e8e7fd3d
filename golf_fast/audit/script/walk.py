"""The walk through a whole script: its top level as the main program, then what nothing called."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from golf_fast.audit.script import calls, expressions, names, statements
from golf_fast.audit.script.machine import Machine
from golf_fast.audit.script.overhang import slices_beyond
from golf_fast.audit.script.trace import Trace
from golf_fast.audit.script.values import NOTHING, WHOLE, Value


def walk(tree: ast.Module, environment: Mapping[str, str] | None = None) -> Trace:
    """What a script would do with validation tokens, with these environment names set.

    Raises:
        TooLargeError: the script is too large to be judged.
        RecursionError: its expressions are nested too deeply.
    """
    m = Machine(environment)
    m.evaluate = lambda node: expressions.evaluate(m, node)
    m.execute = lambda body: statements.execute(m, body)
    m.call = lambda callee, positional, named, node: calls.call(m, callee, positional, named, node)
    m.streams = _streams(tree)
    m.beyond = slices_beyond(tree)
    m.execute(tree.body)
    entered = m.called & {node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if not entered:
        _walk_uncalled(m, tree)
    return m.trace


def _walk_uncalled(m: Machine, tree: ast.Module) -> None:
    """Functions of a file that is no program: each as if it were called, with what its parameters' names say."""
    listed = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    used = {child.id for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in _calls(node)}
    for node in [node for node in listed if node.name not in used] or listed:
        if node in m.called:
            continue
        value = m.module.variables.get(node.name, NOTHING)
        named: dict[str, Value] = {}
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if names.is_validation_name(argument.arg):
                named[argument.arg] = Value(parts=WHOLE)
            elif names.is_model_name(argument.arg):
                named[argument.arg] = Value(models=frozenset({m.new_model(argument.arg)}))
        result = m.call(value, [], named, node)
        del result


def _calls(node: ast.AST) -> list[ast.Name]:
    return [call.func for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]


def _streams(tree: ast.Module) -> set[str]:
    """Attributes that code moves on: `self.position += n`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            found.add(node.target.attr)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target) in ast.unparse(node.value):
                    found.add(target.attr)
    return found
