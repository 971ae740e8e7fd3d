"""Abstract evaluation of expressions."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from golf_fast.audit.script import loops, names
from golf_fast.audit.script.access import attribute, subscript
from golf_fast.audit.script.calls import call_node
from golf_fast.audit.script.machine import Machine, known
from golf_fast.audit.script.scoring import report
from golf_fast.audit.script.statements import bind, condition, function
from golf_fast.audit.script.values import (
    NOTHING,
    UNKNOWN,
    Container,
    External,
    Scope,
    Value,
    blend,
    join,
)

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_SMALL = 1 << 40
_MOST_CHARACTERS = 400
_LONG_FIELD = re.compile(r"%[^a-zA-Z%]*?([0-9]{4,}|\*)")
"""A width or a precision of a `%` format that may make a text of any length."""


def evaluate(m: Machine, node: ast.expr) -> Value:
    """What an expression may be."""
    m.step(node)
    match node:
        case ast.Constant(value):
            return _constant(value)
        case ast.Name(name):
            return _name(m, name)
        case ast.Attribute():
            return attribute(m, m.evaluate(node.value), node.attr)
        case ast.Call():
            return call_node(m, node)
        case ast.Subscript():
            return subscript(m, node)
        case ast.BinOp():
            return _binary(m, node)
        case ast.Compare():
            return _compare(m, node)
        case ast.BoolOp(op, values):
            return _boolean(m, isinstance(op, ast.And), [m.evaluate(value) for value in values])
        case ast.UnaryOp(op, operand):
            return _unary(m, op, m.evaluate(operand))
        case ast.IfExp():
            return _if_expression(m, node)
        case ast.Tuple(elements) | ast.List(elements) | ast.Set(elements):
            return _display(m, node, elements)
        case ast.Dict(keys, values):
            return _dict(m, keys, values)
        case ast.Lambda():
            return Value(things=(function(m, node),))
        case (
            ast.ListComp(element, generators) | ast.SetComp(element, generators) | ast.GeneratorExp(element, generators)
        ):
            return _comprehension(m, generators, [element])
        case ast.DictComp(key, value, generators):
            return _comprehension(m, generators, [key, value])
        case ast.JoinedStr(values):
            return _text(m, values)
        case ast.FormattedValue(value):
            return m.evaluate(value)
        case ast.NamedExpr(target, value):
            found = m.evaluate(value)
            bind(m, target, found)
            return found
        case ast.Slice(lower, upper, step):
            return blend([m.evaluate(part) for part in (lower, upper, step) if part is not None])
        case ast.Yield(value):
            _yield(m, m.evaluate(value) if value is not None else NOTHING)
            return NOTHING
        case ast.YieldFrom(value):
            loops.iterate(m, node, m.evaluate(value), lambda element: _yield(m, element))
            return NOTHING
        case ast.Await(value) | ast.Starred(value):
            return m.evaluate(value)
        case _:
            return NOTHING


def _constant(value: object) -> Value:
    marks = set()
    if isinstance(value, str):
        if names.is_validation_path(value):
            marks.add("val path")
        if names.is_training_path(value):
            marks.add("train path")
    elif isinstance(value, float) and (abs(value - math.log(2)) < 1e-6 or abs(value - 1 / math.log(2)) < 1e-6):
        marks.add("ln2")
    return Value(constant=value, marks=frozenset(marks))


def _name(m: Machine, name: str) -> Value:
    scope = m.scope.find(name)
    if scope is not None:
        return scope.variables[name]
    if name == "__name__":
        return Value(marks=frozenset({"__name__"}))
    return Value(things=(External(name),))


def _binary(m: Machine, node: ast.BinOp) -> Value:
    left, right = m.evaluate(node.left), m.evaluate(node.right)
    if isinstance(node.op, ast.Div | ast.Mult):
        per_byte = isinstance(node.op, ast.Div)
        report(m, left, right, per_byte)
        report(m, right, left, False)
    folded = _fold(_ARITHMETIC.get(type(node.op)), left, right)
    boxes = [thing for value in (left, right) for thing in value.things if isinstance(thing, Container)]
    mixed = m.mix(left, right)
    if isinstance(node.op, ast.Div) and "ln2" in right.marks and known(left):
        mixed = mixed.marked("ln2")
    elif isinstance(node.op, ast.Div | ast.Mult | ast.Add | ast.Sub) and (left.losses or right.losses):
        mixed = mixed.with_(marks=mixed.marks - {"ln2"})
    if boxes and isinstance(node.op, ast.Add | ast.Mult):
        repeated = isinstance(node.op, ast.Mult) or (len(boxes) == 2 and _share(m, left, right))
        box = Container(rest=join(*(box.all() for box in boxes)))
        return mixed.with_(things=(box,)).marked(*(["repeated"] if repeated else []))
    return mixed.with_(constant=folded)


def _share(m: Machine, left: Value, right: Value) -> bool:
    return any(thing in right.things for thing in left.things)


def _fold(operation: Callable[[Any, Any], Any] | None, left: Value, right: Value) -> Any:
    if operation is None or not known(left) or not known(right):
        return UNKNOWN
    if _may_be_huge(operation, left.constant, right.constant):
        return UNKNOWN
    try:
        result = operation(left.constant, right.constant)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError):
        return UNKNOWN
    too_large = (isinstance(result, int) and abs(result) > _SMALL) or (
        isinstance(result, str | bytes) and len(result) > _MOST_CHARACTERS
    )
    return UNKNOWN if too_large else result


def _may_be_huge(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> bool:
    """Whether memory or time for a result may be beyond what the operands take themselves."""
    if operation is operator.mod and isinstance(left, str | bytes):
        return _LONG_FIELD.search(left if isinstance(left, str) else left.decode("latin-1")) is not None
    if operation is operator.lshift:
        return not isinstance(right, int) or right > _SMALL.bit_length()
    if operation is operator.mul:
        texts = any(isinstance(operand, str | bytes) for operand in (left, right))
        return texts and any(isinstance(operand, int) and operand > _MOST_CHARACTERS for operand in (left, right))
    return False


def _compare(m: Machine, node: ast.Compare) -> Value:
    values = [m.evaluate(node.left), *(m.evaluate(value) for value in node.comparators)]
    mixed = m.mix(*values)
    if "__name__" in mixed.marks:
        return mixed
    folded = _fold(_COMPARISONS.get(type(node.ops[0])), *values) if len(values) == 2 else UNKNOWN
    # Where something is equal says where to look, and is not the tokens themselves.
    return mixed.with_(constant=folded, parts=NOTHING.parts, losses=NOTHING.losses, marks=mixed.marks - {"bytes"})


def _boolean(m: Machine, conjunction: bool, values: list[Value]) -> Value:
    mixed = m.mix(*values)
    things = tuple(thing for value in values for thing in value.things)
    truths = [bool(value.constant) for value in values if known(value)]
    decided = not all(truths) if conjunction else any(truths)
    if decided:
        marks = frozenset(mark for v in values if known(v) and bool(v.constant) != conjunction for mark in v.marks)
        return mixed.with_(constant=not conjunction, things=things, marks=marks)
    if len(truths) == len(values):
        return mixed.with_(constant=conjunction, things=things)
    return mixed.with_(things=things)


def _unary(m: Machine, op: ast.unaryop, value: Value) -> Value:
    mixed = m.mix(value)
    if known(value) and isinstance(op, ast.Not):
        return mixed.with_(constant=not value.constant)
    if known(value) and isinstance(op, ast.USub) and isinstance(value.constant, int | float):
        return mixed.with_(constant=-value.constant)
    return mixed


def _if_expression(m: Machine, node: ast.IfExp) -> Value:
    m.evaluate(node.test)
    key, outcomes = condition(m, node.test)
    with m.in_arm(key, outcomes[0]):
        first = m.evaluate(node.body)
    with m.in_arm(key, outcomes[1]):
        second = m.evaluate(node.orelse)
    return join(first, second)


def _display(m: Machine, node: ast.expr, elements: list[ast.expr]) -> Value:
    box = Container()
    for place, element in enumerate(elements):
        value = m.evaluate(element)
        if isinstance(element, ast.Starred):
            box.rest = join(box.rest, loops.element_of(m, value))
        else:
            box.items[place] = value
    cell = m.new_cell() if isinstance(node, ast.List) else None
    return Value(things=(box,), cell=cell)


def _dict(m: Machine, keys: list[ast.expr | None], values: list[ast.expr]) -> Value:
    box = Container()
    for key, expression in zip(keys, values, strict=True):
        value = m.evaluate(expression)
        if key is None:
            box.rest = join(box.rest, *(t.all() for t in value.things if isinstance(t, Container)), m.content(value))
            continue
        name = m.evaluate(key)
        if isinstance(name.constant, str | int):
            box.items[name.constant] = value
        else:
            box.rest = join(box.rest, value.stamped(name.stamps))
    return Value(things=(box,), cell=m.new_cell())


def _comprehension(m: Machine, generators: list[ast.comprehension], elements: list[ast.expr]) -> Value:
    outer = m.scope
    m.scope = Scope(parent=outer)
    found: list[Value] = []

    def level(depth: int) -> None:
        if depth == len(generators):
            found.append([m.evaluate(element) for element in elements][-1])  # of a mapping, what is at its keys
            return
        generator = generators[depth]

        def body(element: Value) -> None:
            bind(m, generator.target, element)
            for test in generator.ifs:
                m.evaluate(test)
            level(depth + 1)

        iterable = m.evaluate(generator.iter)
        head = f"{ast.unparse(generator.target)} {ast.unparse(generator.iter)}"
        loops.iterate(m, generator, iterable, body, names.counts_epochs(head))

    try:
        level(0)
    finally:
        m.scope = outer
    return Value(things=(Container(rest=join(*found)),), cell=m.new_cell())


def _text(m: Machine, values: list[ast.expr]) -> Value:
    parts = [m.evaluate(value) for value in values]
    mixed = m.mix(*parts)
    if all(known(part) for part in parts):
        return mixed.with_(constant="".join(str(part.constant) for part in parts)[:400])
    return mixed


def _yield(m: Machine, value: Value) -> None:
    frame = m.frames[-1]
    if frame.on_yield is not None:
        frame.on_yield(value)
    else:
        frame.returns.append(value)
