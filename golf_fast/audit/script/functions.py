"""Abstract semantics of functions of Python and torch that do more than compute a result, by their last name."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

from golf_fast.audit.script import loops, scoring
from golf_fast.audit.script.machine import Machine, known
from golf_fast.audit.script.values import (
    NOTHING,
    UNKNOWN,
    Container,
    External,
    Function,
    Generator,
    Instance,
    Partial,
    Value,
    blend,
    join,
)

Arguments = tuple[list[Value], dict[str, Value]]


def collected(m: Machine, value: Value) -> Value:
    """A generator as the list of what it yields; anything else as it is."""
    found = [loops.drain(m, thing) for thing in value.things if isinstance(thing, Generator)]
    return Value(things=(Container(rest=join(*found)),)) if found else value


def into_files(m: Machine, content: Value) -> None:
    """Files carry weights; which ones are read back where is not followed."""
    saved = scoring.snapshot(m, content)
    m.files = join(m.files, Value(trained=saved.trained, marks=frozenset({"weights"} if content.models else set())))


def _environment(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    positional, _ = arguments
    value = positional[1] if len(positional) > 1 else NOTHING
    name = positional[0].constant if positional else UNKNOWN
    if isinstance(name, str) and name in m.environment:
        return Value(constant=m.environment[name], marks=value.marks | {"set", "path"})
    return value.marked(f"env:{name}", "path") if isinstance(name, str) else value


def _converted(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    positional, named = arguments
    mixed = m.mix(*positional, *named.values())
    kinds: dict[str, Callable[[Any], object]] = {"int": int, "float": float, "bool": bool, "str": str}
    if len(positional) == 1 and known(positional[0]):
        try:
            return mixed.with_(constant=kinds[callee.last](positional[0].constant))
        except (ValueError, TypeError, OverflowError):
            return mixed
    return mixed


def _logarithm(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    mixed = m.mix(*arguments[0], *arguments[1].values())
    value = arguments[0][0].constant if arguments[0] else UNKNOWN
    wanted = math.e if callee.last == "log2" else 2
    return mixed.marked("ln2") if value == wanted else mixed


def _save(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    into_files(m, m.mix(*arguments[0], *arguments[1].values()))
    return NOTHING


def _copied(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    value = arguments[0][0] if arguments[0] else NOTHING
    if not value.models:
        return value.with_(cell=m.new_cell()) if not value.things else value
    trained = m.trained(value)
    return value.with_(models=frozenset({m.new_model("copy", trained)}), trained=NOTHING.trained)


def _autograd(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    positional, named = arguments
    everything = [*positional, *named.values()]
    if callee.last == "backward":
        for value in positional[:1]:
            scoring.backward(m, value)
        return NOTHING
    if positional and any(isinstance(thing, Function | Instance | Partial) for thing in positional[0].things):
        return Value(things=(Partial(positional[0], [], {}, gradient=True),))
    return scoring.gradients(m, positional[0] if positional else NOTHING, join(*everything[1:]))


def _range(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    mixed = m.mix(*arguments[0])
    known_end = len(arguments[0]) == 1 and known(arguments[0][0])
    return mixed.with_(parts=NOTHING.parts, constant=arguments[0][0].constant if known_end else UNKNOWN)


def _partial(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    positional, named = arguments
    return Value(things=(Partial(positional[0], positional[1:], named),)) if positional else NOTHING


def _getattr(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    from golf_fast.audit.script.access import attribute

    positional, _ = arguments
    if len(positional) > 1 and isinstance(positional[1].constant, str):
        found = attribute(m, positional[0], positional[1].constant)
        return join(found, *positional[2:]) if positional[2:] and not found.things else found
    return m.mix(*positional)


def _made_container(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    positional, named = arguments
    box = Container(dict(named))
    for value in positional:
        box.rest = join(box.rest, blend([m.content(value)]))
        for thing in value.things:
            if isinstance(thing, Container):
                box.items.update({key: item for key, item in thing.items.items() if isinstance(key, str)})
                box.rest = join(box.rest, thing.rest)
    return Value(things=(box,), cell=m.new_cell())


def _dynamic(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    if callee.path in ("exec", "eval"):
        m.trace.dynamic.append(m.where())
    return m.mix(*arguments[0])


def _summed(m: Machine, node: ast.AST, callee: External, arguments: Arguments) -> Value:
    elements = [loops.element_of(m, collected(m, value)) if value.things else value for value in arguments[0]]
    cells = {cell for value in arguments[0] for cell in (*value.cells, value.cell) if cell is not None}
    mixed = m.mix(*elements)
    return mixed.with_(cells=mixed.cells | cells)


SPECIAL: dict[str, Callable[[Machine, ast.AST, External, Arguments], Value]] = {
    "getenv": _environment,
    "get": _environment,
    "int": _converted,
    "float": _converted,
    "bool": _converted,
    "str": _converted,
    "log": _logarithm,
    "log2": _logarithm,
    "save": _save,
    "dump": _save,
    "save_file": _save,
    "deepcopy": _copied,
    "grad": _autograd,
    "backward": _autograd,
    "value_and_grad": _autograd,
    "grad_and_value": _autograd,
    "range": _range,
    "partial": _partial,
    "getattr": _getattr,
    "dict": _made_container,
    "SimpleNamespace": _made_container,
    "OrderedDict": _made_container,
    "defaultdict": _made_container,
    "deque": _made_container,
    "exec": _dynamic,
    "eval": _dynamic,
    "sum": _summed,
    "cat": _summed,
    "stack": _summed,
    "concatenate": _summed,
}
