"""Abstract interpretation of loops: each is walked twice, so that the effects of one iteration reach the next.

A generator is walked where it is iterated, with the body of the loop at each of its yields, so that a loop over epochs
is recognised inside a generator too.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from golf_fast.audit.script import names
from golf_fast.audit.script.machine import Frame, Loop, Machine, known
from golf_fast.audit.script.values import (
    NOTHING,
    UNKNOWN,
    Container,
    Generator,
    Instance,
    Stamps,
    Value,
    join,
)

TURNS = 2


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function or a loop, but not those of functions and classes defined in it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from own_nodes(child)


def for_loop(m: Machine, node: ast.For | ast.AsyncFor) -> None:
    """Walk a `for` statement."""
    from golf_fast.audit.script.statements import bind

    iterable = m.evaluate(node.iter)
    epochs = names.counts_epochs(f"{ast.unparse(node.target)} {ast.unparse(node.iter)}") or "repeated" in iterable.marks

    def body(element: Value) -> None:
        bind(m, node.target, element)
        m.execute(node.body)

    gate = _no_turn(iterable)
    if gate:
        m.gates.append(gate)
    iterate(m, node, iterable, body, epochs)
    if gate:
        m.gates.pop()
    m.execute(node.orelse)


def while_loop(m: Machine, node: ast.While) -> None:
    """Walk a `while` statement."""
    epochs = names.counts_epochs(ast.unparse(node.test))
    for _ in turns(m, node, epochs):
        m.evaluate(node.test)
        m.execute(node.body)
    m.execute(node.orelse)


def turns(m: Machine, node: ast.AST, epochs: bool) -> Iterator[Stamps]:
    """The turns of a loop, each with the stamps that it gives to what it picks."""
    loop = Loop(m.loop_id(node), 0, epochs)
    m.loops.append(loop)
    try:
        for turn in range(1, TURNS + 1):
            loop.turn = turn
            stamp: Stamps = frozenset() if epochs else frozenset({(loop.id, turn)})
            for name in _induction(m, node):
                _move_on(m, name, loop.id, stamp)
            yield stamp
    finally:
        m.loops.remove(loop)


def iterate(m: Machine, node: ast.AST, iterable: Value, body: Callable[[Value], None], epochs: bool = False) -> None:
    """Call `body` with what an iterable gives, as a loop would."""
    generators = [thing for thing in iterable.things if isinstance(thing, Generator)]
    instances = [thing for thing in iterable.things if isinstance(thing, Instance)]
    for generator in generators:
        run_generator(m, generator, body)
    for instance in instances:
        _iterate_instance(m, node, instance, iterable, body, epochs)
    if (generators or instances) and not any(isinstance(thing, Container) for thing in iterable.things):
        return
    boxes = [thing for thing in iterable.things if isinstance(thing, Container)]
    short = boxes and all(box.rest is NOTHING and 0 < len(box.items) <= 3 for box in boxes) and len(boxes) == 1
    if short and not _is_mapping(boxes[0]):
        # As many turns as elements: each is known.
        loop = Loop(m.loop_id(node), 0, epochs)
        m.loops.append(loop)
        for turn, element in enumerate(list(boxes[0].items.values()), 1):
            loop.turn = turn
            body(element.stamped(frozenset() if epochs else frozenset({(loop.id, turn)})))
        m.loops.remove(loop)
        return
    for stamp in turns(m, node, epochs):
        body(element_of(m, iterable).stamped(stamp))


def element_of(m: Machine, iterable: Value) -> Value:
    """Any element of an iterable, without the turn in which it comes."""
    boxes = [thing for thing in iterable.things if isinstance(thing, Container)]
    if not boxes:
        return m.content(iterable)
    found = []
    for box in boxes:
        keys = [key for key in box.items if isinstance(key, str)]
        if keys and not box.rest.things:
            found.append(Value(stamps=iterable.stamps))  # a mapping gives its keys
        found.append(box.all())
    extra = iterable.with_(things=(), constant=UNKNOWN, cell=None)
    element = join(*found).stamped(iterable.stamps)
    return element.with_(
        parts=element.parts | extra.parts,
        marks=element.marks | extra.marks - {"repeated"},
        models=element.models | extra.models,
        losses=element.losses | extra.losses,
    )


def run_generator(m: Machine, generator: Generator, on_yield: Callable[[Value], None]) -> Value:
    """Walk a generator's body; `on_yield` gets what it yields, with what it was handed through around it."""
    function = generator.function
    if any(frame.node is function.node for frame in m.frames):
        return NOTHING
    outer_scope, outer_arms = m.scope, m.arms
    caller_path, caller_loops = m.path, m.loops

    def yielded(value: Value) -> None:
        inner_scope, frame = m.scope, m.frames.pop()
        m.scope = outer_scope
        for wrapper in generator.inside:
            if wrapper == "enumerate":
                value = Value(things=(Container({0: Value(stamps=value.stamps), 1: value}),))
            elif wrapper == "zip":
                value = Value(things=(Container({0: value, 1: generator.beside}),))
        on_yield(value)
        m.scope = inner_scope
        m.frames.append(frame)

    frame = Frame(function.name, function.node, on_yield=yielded)
    m.frames.append(frame)
    m.called.add(function.node)
    m.scope = generator.scope
    assert not isinstance(function.node, ast.Lambda)
    try:
        m.execute(function.node.body)
    finally:
        m.frames.remove(frame)
        m.scope, m.arms, m.path, m.loops = outer_scope, outer_arms, caller_path, caller_loops
    return join(*frame.returns)


def drain(m: Machine, generator: Generator) -> Value:
    """Whatever a generator yields."""
    found: list[Value] = []
    run_generator(m, generator, found.append)
    return join(*found)


def _iterate_instance(
    m: Machine, node: ast.AST, instance: Instance, iterable: Value, body: Callable[[Value], None], epochs: bool
) -> None:
    from golf_fast.audit.script.statements import bound

    method = instance.type.lookup("__iter__")
    holder = m.call(bound(method, instance, iterable), [], {}, node) if method is not None else NOTHING
    generators = [thing for thing in holder.things if isinstance(thing, Generator)]
    if generators:
        for generator in generators:
            run_generator(m, generator, body)
        return
    if holder.things and instance not in holder.things:
        iterate(m, node, holder, body, epochs)
        return
    for name in ("__next__", "__getitem__"):
        method = instance.type.lookup(name)
        if method is not None:
            for stamp in turns(m, node, epochs):
                arguments = [] if name == "__next__" else [Value(stamps=stamp)]
                body(m.call(bound(method, instance, iterable), arguments, {}, node).stamped(stamp))
            return
    for stamp in turns(m, node, epochs):
        body(join(holder, *instance.attributes.values(), m.content(iterable)).stamped(stamp))


def _is_mapping(box: Container) -> bool:
    return any(isinstance(key, str) for key in box.items)


def _no_turn(iterable: Value) -> str | None:
    """The environment name without which a loop has no turn."""
    gates = sorted(mark[4:] for mark in iterable.marks if mark.startswith("env:"))
    return gates[0] if gates and known(iterable) and iterable.constant in (0, range(0)) else None


def _move_on(m: Machine, name: str, loop: int, stamp: Stamps) -> None:
    """A position that the loop moves on is another one in each turn."""
    scope = m.scope.find(name)
    if scope is None:
        return
    value = scope.variables[name]
    if value.parts or value.losses or value.things:
        return
    others = frozenset(old for old in value.stamps if old[0] != loop)
    scope.variables[name] = value.with_(stamps=others | stamp, constant=UNKNOWN)


def _induction(m: Machine, node: ast.AST) -> frozenset[str]:
    """Names that a loop computes from themselves, such as `start = stop` with `stop = start + 64`."""
    if node not in m.inductions:
        m.inductions[node] = _find_induction(node)
    return m.inductions[node]


def _find_induction(node: ast.AST) -> frozenset[str]:
    uses: dict[str, set[str]] = {}
    for child in own_nodes(node):
        targets: list[ast.expr] = []
        read: set[str] = set()
        if isinstance(child, ast.Assign):
            targets, read = child.targets, _read(child.value)
        elif isinstance(child, ast.AnnAssign) and child.value is not None:
            targets, read = [child.target], _read(child.value)
        elif isinstance(child, ast.AugAssign):
            targets, read = [child.target], _read(child.value) | _read(child.target)
        elif isinstance(child, ast.NamedExpr):
            targets, read = [child.target], _read(child.value)
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name):
                    uses.setdefault(part.id, set()).update(read)
    return frozenset(name for name in uses if _reaches(uses, name))


def _reaches(uses: dict[str, set[str]], name: str) -> bool:
    seen: set[str] = set()
    todo = set(uses[name])
    while todo:
        other = todo.pop()
        if other == name:
            return True
        if other not in seen:
            seen.add(other)
            todo |= uses.get(other, set())
    return False


def _read(node: ast.expr) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
