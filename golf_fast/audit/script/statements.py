"""How a walk goes through statements: branches one after the other, definitions, assignments."""

from __future__ import annotations

import ast

from golf_fast.audit.script import loops, names
from golf_fast.audit.script.machine import Machine, is_model, known
from golf_fast.audit.script.scoring import accumulate, counted, parameter_written
from golf_fast.audit.script.values import (
    NOTHING,
    WHOLE,
    Class,
    Container,
    Function,
    Generator,
    Instance,
    Partial,
    Scope,
    Value,
    join,
)


def execute(m: Machine, body: list[ast.stmt]) -> bool:
    """Walk statements; whether they end in a return, a raise, a break or a continue."""
    depth, gates = len(m.arms), len(m.gates)
    ended = False
    for statement in body:
        m.step(statement)
        if _statement(m, statement):
            ended = True
            break
    del m.arms[depth:]
    del m.gates[gates:]
    return ended


def _statement(m: Machine, node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value):
            m.evaluate(value)
        case ast.Assign(targets, value):
            _assign(m, targets, value)
        case ast.AnnAssign():
            if node.value is not None:
                _assign(m, [node.target], node.value)
        case ast.AugAssign():
            _augmented(m, node)
        case ast.Return(value):
            result = m.evaluate(value) if value is not None else NOTHING
            m.frames[-1].returns.append(result)
            return True
        case ast.If():
            return _if(m, node)
        case ast.For() | ast.AsyncFor():
            loops.for_loop(m, node)
        case ast.While():
            loops.while_loop(m, node)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            _define(m, node)
        case ast.ClassDef():
            _define_class(m, node)
        case ast.With() | ast.AsyncWith():
            return _with(m, node.items, node.body)
        case ast.Try() | ast.TryStar():
            return _try(m, node)
        case ast.Match():
            _match(m, node)
        case ast.Global(listed) | ast.Nonlocal(listed):
            m.scope.outer.update(listed)
        case ast.Import() | ast.ImportFrom():
            _import(m, node)
        case ast.Delete(targets):
            for target in targets:
                if isinstance(target, ast.Name):
                    m.scope.variables.pop(target.id, None) if not m.arms else None
        case ast.Raise() | ast.Break() | ast.Continue():
            return True
        case _:
            pass
    return False


def _assign(m: Machine, targets: list[ast.expr], expression: ast.expr) -> None:
    value = m.evaluate(expression)
    for target in targets:
        if _adds_to_itself(target, expression):
            assert isinstance(expression, ast.BinOp)
            addend = expression.right if _same(target, expression.left) else expression.left
            before = m.evaluate(expression.left if addend is expression.right else expression.right)
            value = accumulate(m, before, m.evaluate(addend))
        bind(m, target, value)


def _adds_to_itself(target: ast.expr, expression: ast.expr) -> bool:
    return (
        isinstance(expression, ast.BinOp)
        and isinstance(expression.op, ast.Add)
        and (_same(target, expression.left) or _same(target, expression.right))
    )


def _same(target: ast.expr, expression: ast.expr) -> bool:
    return isinstance(target, ast.Name | ast.Attribute) and ast.unparse(target) == ast.unparse(expression)


def _augmented(m: Machine, node: ast.AugAssign) -> None:
    load = ast.parse(ast.unparse(node.target), mode="eval").body
    ast.copy_location(load, node)
    before, addend = m.evaluate(load), m.evaluate(node.value)
    if "grad" in addend.marks:
        parameter_written(m, before, addend)
    if isinstance(node.op, ast.Add | ast.Sub):
        result = accumulate(m, before, addend)
    else:
        result = m.mix(before, addend).with_(things=before.things, cell=before.cell)
    if isinstance(node.target, ast.Subscript):
        result = counted(m, result, m.evaluate(node.target.slice))
    bind(m, node.target, result)


def bind(m: Machine, target: ast.expr, value: Value) -> None:
    """Give a name, an attribute, an element or a tuple of them a value."""
    if m.gates and value.parts:
        value = value.marked(*(f"off:{name}" for name in m.gates))  # wherever it goes, it is not there by default
    match target:
        case ast.Name(name):
            m.assign(name, named(m, name, value))
        case ast.Tuple(elements) | ast.List(elements):
            _unpack(m, elements, value)
        case ast.Starred(inner):
            bind(m, inner, value)
        case ast.Attribute(owner, attribute):
            holder = m.evaluate(owner)
            for thing in holder.things:
                if isinstance(thing, Instance):
                    old = thing.attributes.get(attribute)
                    keep = old is not None and (m.arms or len(holder.things) > 1)
                    thing.attributes[attribute] = join(old, value) if keep and old is not None else value
            if not attribute.startswith("_"):
                parameter_written(m, holder, value)
        case ast.Subscript(owner, index):
            holder, key = m.evaluate(owner), m.evaluate(index)
            _store(m, holder, key, value)
        case _:
            pass


def _store(m: Machine, holder: Value, key: Value, value: Value) -> None:
    content = m.content(value)
    if content.parts and content.losses:
        accumulate(m, holder, value)
    for thing in holder.things:
        if isinstance(thing, Container):
            if known(key) and isinstance(key.constant, str | int):
                old = thing.items.get(key.constant)
                thing.items[key.constant] = join(old, value) if old is not None and m.arms else value
            else:
                thing.rest = join(thing.rest, value)
        elif isinstance(thing, Instance):
            method = thing.type.lookup("__setitem__")
            if method is not None:
                m.call(bound(method, thing, holder), [key, value], {}, ast.Pass())
    if holder.cell is not None:
        m.write(holder, value.with_(stamps=value.stamps))
    parameter_written(m, holder, value)


def named(m: Machine, name: str, value: Value) -> Value:
    """A value under a name: what the name says counts where nothing else is known."""
    lower = name.lower()
    if "byte" in lower:
        value = value.marked("bytes")
    if value.parts or value.things or known(value) or value.losses or value.models or "loss" in value.marks:
        return value
    if value.marks & {"train tokens", "bytes", "path"} or any(mark.startswith("env:") for mark in value.marks):
        return value
    if names.is_validation_name(name) and not lower.endswith(("files", "path", "pattern")):
        m.trace.loads.append((m.where(), name))
        return value.with_(parts=WHOLE)
    if names.is_training_name(name):
        return value.marked("train tokens")
    return value


def _unpack(m: Machine, elements: list[ast.expr], value: Value) -> None:
    containers = [thing for thing in value.things if isinstance(thing, Container)]
    for place, element in enumerate(elements):
        starred = any(isinstance(before, ast.Starred) for before in elements[: place + 1])
        if containers:
            found = join(*(box.all() if starred else box.at(place) for box in containers)).stamped(value.stamps)
        else:
            found = m.content(value)
        bind(m, element, found)


def _if(m: Machine, node: ast.If) -> bool:
    test = m.evaluate(node.test)
    taken = _literal(node.test, test)
    if taken is not None:
        return execute(m, node.body if taken else node.orelse)
    gate, default = gate_of(test)
    key, outcomes = condition(m, node.test)
    before = dict(m.scope.variables)
    with m.in_arm(key, outcomes[0], gate if default is False else None):
        ended = execute(m, node.body)
    after = m.scope.variables
    m.scope.variables = dict(before)
    with m.in_arm(key, outcomes[1], gate if default is True else None):
        ended_else = execute(m, node.orelse)
    merge(m, after, ended, ended_else)
    if ended != ended_else:
        # What follows is the other branch.
        m.arms.append((key, outcomes[1] if ended else outcomes[0]))
        if gate and default is ended:
            m.gates.append(gate)
    return ended and ended_else


def merge(m: Machine, after: dict[str, Value], ended: bool, ended_else: bool) -> None:
    """The names after two branches: what `after` the first or after the second, which is the scope's, they hold."""
    if ended and not ended_else:
        return
    if ended_else and not ended:
        m.scope.variables = after
        return
    other = m.scope.variables
    for name in after.keys() | other.keys():
        first, second = after.get(name), other.get(name)
        if first is not second:
            m.scope.variables[name] = join(*(value for value in (first, second) if value is not None))


def condition(m: Machine, test: ast.expr) -> tuple[str, tuple[str, str]]:
    """A key of a condition, and how it comes out in the branch and in the other one.

    A condition on settings only is the same wherever it stands in the script; any other holds here and now.
    """
    flipped = False
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, flipped = test.operand, not flipped
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.NotEq):
        value = test.comparators[0]
        if _is_setting(test.left) and isinstance(value, ast.Constant):
            same = isinstance(test.ops[0], ast.Eq) != flipped
            equal, other = f"is {value.value!r}", f"is not {value.value!r}"
            return ast.unparse(test.left), (equal, other) if same else (other, equal)
    outcomes = ("false", "true") if flipped else ("true", "false")
    if _is_setting(test):
        return ast.unparse(test), outcomes
    return f"{id(test)} {tuple(m.path)} {tuple((loop.id, loop.turn) for loop in m.loops)}", outcomes


def _is_setting(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def gate_of(test: Value) -> tuple[str | None, bool | None]:
    """The environment name that decides a condition, and how it comes out without it."""
    gates = sorted(mark[4:] for mark in test.marks if mark.startswith("env:"))
    if not gates or not known(test):
        return None, None
    return gates[0], bool(test.constant)


def _literal(node: ast.expr, test: Value) -> bool | None:
    """Whether a branch is always taken: it is the main program, its condition is written out or set."""
    if "__name__" in test.marks:
        return True
    if isinstance(node, ast.Constant):
        return bool(node.value)
    if "set" in test.marks and known(test) and not any(mark.startswith("env:") for mark in test.marks):
        return bool(test.constant)
    return False if isinstance(node, ast.Name) and node.id == "TYPE_CHECKING" else None


def _define(m: Machine, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    value = Value(things=(function(m, node),))
    for decorator in reversed(node.decorator_list):
        callee = m.evaluate(decorator)
        own = [thing for thing in callee.things if isinstance(thing, Function | Class | Instance | Partial)]
        last = ast.unparse(decorator).partition("(")[0].rpartition(".")[2]
        if last in ("property", "cached_property", "setter"):
            value = value.marked("property")
        elif last in ("staticmethod", "classmethod"):
            value = value.marked(last)
        elif own:
            result = m.call(callee, [value], {}, decorator)
            value = result if result.things else value
    m.scope.variables[node.name] = value


def function(m: Machine, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Function:
    """The function that a definition makes here."""
    arguments = node.args
    defaults: dict[str, Value] = {}
    positional = [*arguments.posonlyargs, *arguments.args]
    for argument, default in zip(reversed(positional), reversed(arguments.defaults), strict=False):
        defaults[argument.arg] = m.evaluate(default)
    for argument, given in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if given is not None:
            defaults[argument.arg] = m.evaluate(given)
    scope = m.scope
    while "__class body__" in scope.variables and scope.parent is not None:
        scope = scope.parent
    inner = loops.own_nodes(node)
    return Function(node, scope, defaults, is_generator=any(isinstance(n, ast.Yield | ast.YieldFrom) for n in inner))


def _define_class(m: Machine, node: ast.ClassDef) -> None:
    bases = [m.evaluate(base) for base in node.bases]
    scope = Scope({"__class body__": NOTHING}, parent=m.scope)
    made = Class(node, scope, bases)
    outer, m.scope = m.scope, scope
    try:
        execute(m, node.body)
    finally:
        m.scope = outer
    m.scope.variables[node.name] = Value(things=(made,))


def bound(method: Value, owner: Instance | Class, holder: Value) -> Value:
    """A method of an object, with the object in it."""
    if "staticmethod" in method.marks:
        return method
    myself = Value(things=(owner,), models=holder.models, trained=holder.trained, stamps=holder.stamps)
    things = [
        Function(thing.node, thing.scope, thing.defaults, myself, thing.is_generator)
        if isinstance(thing, Function) and thing.bound is None
        else thing
        for thing in method.things
    ]
    return method.with_(things=tuple(things))


def _with(m: Machine, items: list[ast.withitem], body: list[ast.stmt]) -> bool:
    if not items:
        return execute(m, body)
    first, ended = items[0], False
    context = m.evaluate(first.context_expr)

    def inside(value: Value) -> None:
        nonlocal ended
        if first.optional_vars is not None:
            bind(m, first.optional_vars, value)
        ended = _with(m, items[1:], body)

    generators = [thing for thing in context.things if isinstance(thing, Generator)]
    if generators:
        loops.run_generator(m, generators[0], inside)
        return ended
    for thing in context.things:
        method = thing.type.lookup("__enter__") if isinstance(thing, Instance) and not is_model(thing.type) else None
        if method is not None and isinstance(thing, Instance):
            context = join(m.call(bound(method, thing, context), [], {}, first.context_expr), context)
    inside(context)
    for thing in context.things:
        method = thing.type.lookup("__exit__") if isinstance(thing, Instance) and not is_model(thing.type) else None
        if method is not None and isinstance(thing, Instance):
            m.call(bound(method, thing, context), [NOTHING] * 3, {}, first.context_expr)
    return ended


def _try(m: Machine, node: ast.Try | ast.TryStar) -> bool:
    ended = execute(m, node.body)
    if not ended:
        ended = execute(m, node.orelse)
    for number, handler in enumerate(node.handlers):
        before = dict(m.scope.variables)
        with m.in_arm(f"{id(node)} failed {tuple(m.path)}", str(number)):
            execute(m, handler.body)
        merge(m, before, False, False)
    execute(m, node.finalbody)
    return ended


def _match(m: Machine, node: ast.Match) -> None:
    m.evaluate(node.subject)
    text = ast.unparse(node.subject)
    for case in node.cases:
        before = dict(m.scope.variables)
        with m.in_arm(text if _is_setting(node.subject) else f"{id(node)} {tuple(m.path)}", ast.unparse(case.pattern)):
            execute(m, case.body)
        merge(m, before, False, False)


def _import(m: Machine, node: ast.Import | ast.ImportFrom) -> None:
    from golf_fast.audit.script.values import External

    for alias in node.names:
        if isinstance(node, ast.Import):
            path = alias.name if alias.asname else alias.name.partition(".")[0]
        else:
            path = f"{node.module or ''}.{alias.name}"
        local = alias.asname or alias.name.partition(".")[0]
        m.scope.variables[local] = Value(things=(External(path),))
