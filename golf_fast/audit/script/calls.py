"""Abstract evaluation of calls of what the script defines: functions, classes, instances and models."""

from __future__ import annotations

import ast
import re

from golf_fast.audit.script import library, names
from golf_fast.audit.script.machine import DEEPEST, Frame, Machine, is_model
from golf_fast.audit.script.scoring import model_output
from golf_fast.audit.script.values import (
    NOTHING,
    Class,
    Container,
    External,
    Function,
    Generator,
    Instance,
    Partial,
    Scope,
    Thing,
    Value,
    join,
)

_TRAINS = re.compile(r"\bbackward\(|autograd\.grad|\.step\(|optim\.|\bLN2\b|log\(2|bpb")
REST = "*"
"""Key of the value that stands for any further argument."""


def call_node(m: Machine, node: ast.Call) -> Value:
    """What a call expression gives."""
    from golf_fast.audit.script.access import attribute

    method: str | None = None
    holder = NOTHING
    if isinstance(node.func, ast.Attribute):
        method = node.func.attr
        holder = m.evaluate(node.func.value)
        if _is_super(node.func.value):
            holder = m.scope.variables.get("self", NOTHING)
            return _super_call(m, node, holder, method)
        callee = attribute(m, holder, method)
    else:
        callee = m.evaluate(node.func)
    positional, named = _arguments(m, node)
    m.line = node.lineno
    own = [thing for thing in callee.things if not (isinstance(thing, External) and thing.owner is not None)]
    if method is not None and not own:
        return library.method(m, node, holder, method, positional, named)
    if not callee.things:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if callee.models or names.is_model_name(name):
            return model_output(m, node, callee, [*positional, *named.values()])
        return m.mix(callee, *positional, *named.values())
    return call(m, callee, positional, named, node)


def call(m: Machine, callee: Value, positional: list[Value], named: dict[str, Value], node: ast.AST) -> Value:
    """What calling a value gives, whatever it may be."""
    results: list[Value] = []
    for thing in callee.things:
        results.append(_call_thing(m, thing, callee, positional, named, node))
    if not callee.things:
        results.append(m.mix(callee, *positional, *named.values()))
    return join(*results)


def _call_thing(
    m: Machine, thing: Thing, callee: Value, positional: list[Value], named: dict[str, Value], node: ast.AST
) -> Value:
    match thing:
        case Function():
            return _call_function(m, thing, positional, named, node)
        case Class():
            return _construct(m, thing, positional, named, node)
        case Partial(gradient=True):
            output = call(m, thing.callee, [*thing.positional, *positional], {**thing.named, **named}, node)
            return library.gradient_of(m, output, positional)
        case Partial():
            return call(m, thing.callee, [*thing.positional, *positional], {**thing.named, **named}, node)
        case Instance():
            name = "forward" if is_model(thing.type) else "__call__"
            found = thing.type.lookup(name) or thing.type.lookup("__call__")
            if found is None:
                return model_output(m, node, callee, [*positional, *named.values()])
            from golf_fast.audit.script.statements import bound

            return call(m, bound(found, thing, callee), positional, named, node)
        case External() if thing.owner is not None:
            return library.method(m, node, thing.owner, thing.last, positional, named)
        case External():
            return library.external(m, node, thing, positional, named)
        case _:
            return m.mix(callee, *positional, *named.values())


def _arguments(m: Machine, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
    positional: list[Value] = []
    named: dict[str, Value] = {}
    for argument in node.args:
        value = m.evaluate(argument)
        if not isinstance(argument, ast.Starred):
            positional.append(value)
            continue
        boxes = [thing for thing in value.things if isinstance(thing, Container)]
        if len(boxes) == 1:
            positional.extend(boxes[0].items.values())
        if not boxes or any(box.rest is not NOTHING for box in boxes):
            named[REST] = join(m.content(value), *(box.rest for box in boxes))
    for keyword in node.keywords:
        value = m.evaluate(keyword.value)
        if keyword.arg is not None:
            named[keyword.arg] = value
            continue
        for thing in value.things:
            if isinstance(thing, Container):
                named.update({key: item for key, item in thing.items.items() if isinstance(key, str)})
                if thing.rest is not NOTHING:
                    named[REST] = thing.rest
    return positional, named


def _call_function(
    m: Machine, function: Function, positional: list[Value], named: dict[str, Value], node: ast.AST
) -> Value:
    given = [function.bound, *positional] if function.bound is not None else positional
    if _is_opaque(m, function):
        return model_output(m, node, given[0], [*given[1:], *named.values()])
    busy = any(frame.node is function.node for frame in m.frames)
    if busy or len(m.frames) > DEEPEST:
        return m.mix(*given, *named.values())
    scope = Scope(parent=function.scope)
    scope.variables.update(_bind_arguments(m, function, given, named))
    if function.is_generator:
        return Value(things=(Generator(function, scope),))
    return run(m, function, scope, node)


def run(m: Machine, function: Function, scope: Scope, node: ast.AST) -> Value:
    """Walk a function's body in a scope that holds its arguments."""
    frame = Frame(function.name, function.node)
    outer, line = m.scope, m.line
    m.scope = scope
    m.frames.append(frame)
    m.path.append(id(node))
    m.called.add(function.node)
    try:
        if isinstance(function.node, ast.Lambda):
            frame.returns.append(m.evaluate(function.node.body))
        else:
            m.execute(function.node.body)
    finally:
        m.scope = outer
        m.frames.pop()
        m.path.pop()
        m.line = line
    return join(*frame.returns)


def _bind_arguments(m: Machine, function: Function, given: list[Value], named: dict[str, Value]) -> dict[str, Value]:
    from golf_fast.audit.script.statements import named as under_name

    arguments = function.node.args
    listed = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    anything = named.get(REST)
    values: dict[str, Value] = {}
    for place, name in enumerate([*listed, *(argument.arg for argument in arguments.kwonlyargs)]):
        if place < len(given) and place < len(listed):
            values[name] = given[place]
        elif name in named:
            values[name] = named[name]
        elif anything is not None:
            values[name] = anything
        else:
            values[name] = function.defaults.get(name, NOTHING)
        values[name] = under_name(m, name, values[name])
    if arguments.vararg is not None:
        box = Container(dict(enumerate(given[len(listed) :])), anything or NOTHING)
        values[arguments.vararg.arg] = Value(things=(box,))
    if arguments.kwarg is not None:
        rest = {key: value for key, value in named.items() if key not in values and key != REST}
        values[arguments.kwarg.arg] = Value(things=(Container(dict(rest), anything or NOTHING),))
    return values


def _construct(m: Machine, kind: Class, positional: list[Value], named: dict[str, Value], node: ast.AST) -> Value:
    from golf_fast.audit.script.statements import bound

    instance = Instance(kind)
    if is_model(kind):
        weights = m.mix(*positional, *named.values())
        model = m.new_model(kind.node.name, weights.trained)
        return Value(things=(instance,), models=frozenset({model}))
    value = Value(things=(instance,))
    if kind.derives_from("Optimizer"):
        return value.with_(models=m.mix(*positional, *named.values()).models)
    method = kind.lookup("__init__")
    if method is not None:
        call(m, bound(method, instance, value), positional, named, node)
        return value
    for name, given in zip(kind.fields, positional, strict=False):
        instance.attributes[name] = given
    for name, given in named.items():
        if name != REST:
            instance.attributes[name] = given
    if any(isinstance(thing, External) for base in kind.bases for thing in base.things):
        instance.attributes |= {str(place): given for place, given in enumerate(positional)}
    after = kind.lookup("__post_init__")
    if after is not None:
        call(m, bound(after, instance, value), [], {}, node)
    return value


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _super_call(m: Machine, node: ast.Call, holder: Value, method: str) -> Value:
    from golf_fast.audit.script.statements import bound

    positional, named = _arguments(m, node)
    results: list[Value] = []
    for thing in holder.things:
        if not isinstance(thing, Instance):
            continue
        for base in thing.type.bases:
            for parent in base.things:
                found = parent.lookup(method) if isinstance(parent, Class) else None
                if found is not None:
                    results.append(call(m, bound(found, thing, holder), positional, named, node))
    return join(*results) if results else m.mix(*positional, *named.values())


def _is_opaque(m: Machine, function: Function) -> bool:
    """Whether it is a method of a model that neither trains nor reports: what it computes is the model's output."""
    holder = function.bound
    if holder is None:
        return False
    models = [thing for thing in holder.things if isinstance(thing, Instance) and is_model(thing.type)]
    if not models:
        return False
    if function.node not in m.trains:
        m.trains[function.node] = bool(_TRAINS.search(ast.unparse(function.node)))
    return not m.trains[function.node]
