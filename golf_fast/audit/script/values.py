"""What the judge of a script knows about a value: which validation tokens are in it, and what it is made of.

A script is never executed. It is walked as it would run, with one abstract `Value` for whatever a name may hold, and
every loop is walked twice. A *stamp* `(loop, turn)` says that a value was picked by the turn of a loop; two pieces of
validation tokens with different turns of one loop are different chunks, others may share tokens.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Stamp = tuple[int, int]
Stamps = frozenset[Stamp]
Part = Stamps
"""Some validation tokens: all of them if it has no stamp, else those that the turns of loops picked."""
Parts = frozenset[Part]
Names = frozenset[str]
Ids = frozenset[int]

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "UNKNOWN"})()
"""Stands for a constant that is not known."""
WHOLE: Parts = frozenset({frozenset()})
_MOST_PARTS = 24
_NO_STAMPS: Stamps = frozenset()
_NO_PARTS: Parts = frozenset()
_NO_NAMES: Names = frozenset()
_NO_IDS: Ids = frozenset()


class Thing:
    """An object of the script that is known: a function, a class, an instance, a container, a name of a library."""


@dataclass(slots=True, eq=False)  # not frozen, which would take three times as long to make; never changed all the same
class Value:
    """What a name or an expression may hold."""

    parts: Parts = _NO_PARTS
    """Validation tokens that it is made from."""
    stamps: Stamps = _NO_STAMPS
    """Turns of loops that it depends on; an index with stamps picks parts with them."""
    marks: Names = _NO_NAMES
    """`loss`, `grad`, `ln2`, `bytes`, `val path`, `train path`, `train tokens`, `repeated`, `env:NAME`."""
    things: tuple[Thing, ...] = ()
    """Objects that it may be."""
    models: Ids = _NO_IDS
    """Models whose present weights it depends on."""
    trained: Ids = _NO_IDS
    """Trainings on validation tokens that went into a copy of weights."""
    cell: int | None = None
    """The storage that writing in place changes."""
    cells: Ids = _NO_IDS
    """Storages that it was computed from."""
    losses: Ids = _NO_IDS
    """Outputs of models that it was computed from."""
    constant: Any = UNKNOWN

    def with_(self, **changes: Any) -> Value:
        """A copy with some fields changed."""
        made = Value(
            self.parts,
            self.stamps,
            self.marks,
            self.things,
            self.models,
            self.trained,
            self.cell,
            self.cells,
            self.losses,
            self.constant,
        )
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def marked(self, *marks: str) -> Value:
        """A copy with more marks."""
        return self.with_(marks=self.marks | set(marks))

    def stamped(self, stamps: Stamps) -> Value:
        """A copy that depends on more turns of loops."""
        if not stamps:
            return self
        return self.with_(stamps=self.stamps | stamps, parts=frozenset(part | stamps for part in self.parts))


NOTHING = Value()


@dataclass(eq=False)
class Function(Thing):
    """A function or lambda of the script, with the scope in which it was defined."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Scope
    defaults: dict[str, Value] = field(default_factory=dict)
    bound: Value | None = None
    """`self` or `cls` of a method."""
    is_generator: bool = False

    @property
    def name(self) -> str:
        """The name in its definition."""
        return "lambda" if isinstance(self.node, ast.Lambda) else self.node.name


@dataclass(eq=False)
class Partial(Thing):
    """A callable with some arguments given; `gradient` if calling it gives gradients of what the callable gives."""

    callee: Value
    positional: list[Value]
    named: dict[str, Value]
    gradient: bool = False


@dataclass(eq=False)
class Class(Thing):
    """A class of the script."""

    node: ast.ClassDef
    scope: Scope
    bases: list[Value]

    def lookup(self, name: str) -> Value | None:
        """An attribute of it or of its bases."""
        if name in self.scope.variables:
            return self.scope.variables[name]
        for base in self.bases:
            for thing in base.things:
                found = thing.lookup(name) if isinstance(thing, Class) and thing is not self else None
                if found is not None:
                    return found
        return None

    def derives_from(self, last: str) -> bool:
        """Whether one of its bases is a library's class of that name."""
        things = [thing for base in self.bases for thing in base.things]
        return any(
            (isinstance(thing, External) and thing.last == last)
            or (isinstance(thing, Class) and thing is not self and thing.derives_from(last))
            for thing in things
        )

    @property
    def fields(self) -> list[str]:
        """Annotated names of the body, in order: what the constructor of a dataclass or named tuple takes."""
        inherited = [thing.fields for base in self.bases for thing in base.things if isinstance(thing, Class)]
        own = [
            statement.target.id
            for statement in self.node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        ]
        return [name for names in inherited for name in names] + own


@dataclass(eq=False)
class Instance(Thing):
    """An object of a class of the script."""

    type: Class
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(eq=False)
class Container(Thing):
    """A tuple, list, set or mapping: what is at known keys, and what may be anywhere."""

    items: dict[Any, Value] = field(default_factory=dict)
    rest: Value = NOTHING

    def all(self) -> Value:
        """Whatever it may hold."""
        return join(self.rest, *self.items.values())

    def at(self, key: Any) -> Value:
        """What is at a key, or anything where that is not known."""
        try:
            if key is not UNKNOWN and key in self.items:
                return join(self.items[key], self.rest)
            if isinstance(key, int) and key < 0 and len(self.items) + key in self.items:
                return join(self.items[len(self.items) + key], self.rest)
        except TypeError:  # a key that is no key
            pass
        return self.all()


@dataclass(eq=False)
class Generator(Thing):
    """A called generator function; it runs where it is iterated."""

    function: Function
    scope: Scope
    inside: tuple[str, ...] = ()
    """What it was handed through, from the inside out: `enumerate`, `zip`, or nothing that changes its values."""
    beside: Value = NOTHING


@dataclass(eq=False)
class External(Thing):
    """A name of a library, such as `torch.optim.SGD`, or a method of a value, with that value as its owner."""

    path: str
    owner: Value | None = None

    @property
    def last(self) -> str:
        """The name without the modules."""
        return self.path.rpartition(".")[2]


@dataclass(eq=False)
class Scope:
    """Names and what they hold."""

    variables: dict[str, Value] = field(default_factory=dict)
    parent: Scope | None = None
    outer: set[str] = field(default_factory=set)
    """Names declared global or nonlocal."""

    def find(self, name: str) -> Scope | None:
        """The scope in which a name is defined."""
        scope: Scope | None = self.parent if name in self.outer else self
        while scope is not None:
            if name in scope.variables:
                return scope
            scope = scope.parent
        return None


def join(*values: Value) -> Value:
    """Whatever one of the values may be."""
    known = [value for value in values if value is not NOTHING]
    if not known:
        return NOTHING
    first = known[0]
    if all(value is first for value in known):
        return first if len(known) == len(values) else first.with_(constant=UNKNOWN)
    things: dict[int, Thing] = {id(thing): thing for value in known for thing in value.things}
    same = len(known) == len(values) and all(
        type(value.constant) is type(first.constant) and value.constant == first.constant for value in known
    )
    cells = {value.cell for value in known}
    return Value(
        parts=_capped(frozenset().union(*(value.parts for value in known))),
        stamps=_NO_STAMPS.union(*(value.stamps for value in known)),
        marks=_NO_NAMES.union(*(value.marks for value in known)),
        things=tuple(things.values()),
        models=_NO_IDS.union(*(value.models for value in known)),
        trained=_NO_IDS.union(*(value.trained for value in known)),
        cell=cells.pop() if len(cells) == 1 else None,
        cells=_NO_IDS.union(*(value.cells | _own(value) for value in known)),
        losses=_NO_IDS.union(*(value.losses for value in known)),
        constant=first.constant if same else UNKNOWN,
    )


def blend(values: Iterable[Value], without: Names = _NO_NAMES) -> Value:
    """What a computation makes of values: it depends on all of them and is none of the objects."""
    joined = join(NOTHING, *values)
    if joined is NOTHING:
        return NOTHING
    cells = joined.cells | _own(joined)
    return joined.with_(things=(), cell=None, cells=cells, constant=UNKNOWN, marks=joined.marks - without)


def overlap(first: Parts, second: Parts) -> bool:
    """Whether two sets of parts may share a token: no loop picked them in different turns only."""
    return any(not _disjoint(one, other) for one in first for other in second)


def intersection(first: Parts, second: Parts) -> Parts:
    """The tokens that two sets of parts may share."""
    return _capped(frozenset(one | other for one in first for other in second if not _disjoint(one, other)))


def _disjoint(one: Part, other: Part) -> bool:
    for loop in {loop for loop, _ in one} & {loop for loop, _ in other}:
        turns = {turn for at, turn in one if at == loop}
        if turns.isdisjoint(turn for at, turn in other if at == loop):
            return True
    return False


def _own(value: Value) -> Ids:
    return _NO_IDS if value.cell is None else frozenset({value.cell})


def _capped(parts: Parts) -> Parts:
    """Few parts: what many have in common stands for them, which is more tokens than they are."""
    if len(parts) <= _MOST_PARTS:
        return parts
    return frozenset({frozenset.intersection(*parts)})
