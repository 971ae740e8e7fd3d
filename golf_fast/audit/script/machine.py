"""The abstract machine: the state of a walk through a script, with its position, names and storages."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from golf_fast.audit.script.trace import Arm, Trace, Where
from golf_fast.audit.script.values import (
    NOTHING,
    UNKNOWN,
    Class,
    Container,
    External,
    Generator,
    Scope,
    Stamps,
    Value,
    blend,
    join,
)

MOST_STEPS = 1_000_000
"""Greatest number of statements, expressions and objects that are visited; a larger script is not judged."""
DEEPEST = 60
"""Greatest depth of nested calls."""


class TooLargeError(Exception):
    """The walk did not end within `MOST_STEPS`."""


@dataclass
class Frame:
    """A call in progress."""

    name: str
    node: ast.AST
    returns: list[Value] = field(default_factory=list)
    on_yield: Callable[[Value], None] | None = None


@dataclass
class Loop:
    """A loop in progress. The turns of loops over epochs are no chunks."""

    id: int
    turn: int
    epochs: bool


class Machine:
    """Everything that changes while a script is walked. `evaluate`, `execute` and `call` are set by who builds it."""

    evaluate: Callable[[ast.expr], Value]
    execute: Callable[[list[ast.stmt]], bool]
    call: Callable[[Value, list[Value], dict[str, Value], ast.AST], Value]

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = environment or {}
        """Environment names of the run that is judged."""
        self.trace = Trace()
        self.steps = 0
        self.scope = Scope()
        self.module = self.scope
        self.frames: list[Frame] = [Frame("<module>", ast.Module([], []))]
        self.path: list[int] = []
        """Where each call in progress was made."""
        self.loops: list[Loop] = []
        self.arms: list[Arm] = []
        self.gates: list[str] = []
        self.line = 0
        self.cells: dict[int, Value] = {}
        self.hooks: list[tuple[Value, Frame]] = []
        """Hooks of forward passes, each with the call in which it was registered."""
        self.files = NOTHING
        """What was written to files."""
        self.streams: set[str] = set()
        """Attributes that are moved on: a position in a stream."""
        self.beyond: set[ast.AST] = set()
        """Slices that reach into the next chunk."""
        self.models: dict[int, str] = {}
        self.called: set[ast.AST] = set()
        """Definitions that were run."""
        self.inductions: dict[ast.AST, frozenset[str]] = {}
        """Loops -> the names that they move on."""
        self.trains: dict[ast.AST, bool] = {}
        """Methods of models -> whether they train or report."""
        self._loop_ids: dict[tuple[object, ...], int] = {}
        self._kept: list[Value] = []
        self._ids = 0

    def step(self, node: ast.AST) -> None:
        """Count work, and know the line.

        Raises:
            TooLargeError: there was too much.
        """
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise TooLargeError
        self.line = getattr(node, "lineno", self.line)

    def fresh(self) -> int:
        """A number that nothing else has."""
        self._ids += 1
        return self._ids

    def where(self) -> Where:
        """Here."""
        loops = tuple((loop.id, loop.turn) for loop in self.loops)
        return Where(self.line, self.frames[-1].name, loops, tuple(self.arms), tuple(dict.fromkeys(self.gates)))

    def stamps(self) -> Stamps:
        """The present turns of the loops around, but for loops over epochs."""
        return frozenset((loop.id, loop.turn) for loop in self.loops if not loop.epochs)

    def moved(self, value: Value) -> Value:
        """A position in a stream: another one in each turn of the loops around."""
        if value.parts or value.things:
            return value
        around = {loop.id for loop in self.loops}
        kept = frozenset(stamp for stamp in value.stamps if stamp[0] not in around)
        return value.with_(stamps=kept | self.stamps(), constant=UNKNOWN)

    def loop_id(self, node: ast.AST) -> int:
        """The number of a loop: the same whenever it is reached by the same calls."""
        return self._loop_ids.setdefault((id(node), *self.path), len(self._loop_ids) + 1)

    def bound(self, node: ast.expr, value: Value) -> int:
        """The number of a place in a stream, negative: the same for the same value, here and now."""
        if isinstance(node, ast.Name):
            key: tuple[object, ...] = (id(value),)
            self._kept.append(value)
        else:
            turns = tuple((loop.id, loop.turn) for loop in self.loops)
            key = (ast.unparse(node), self.frames[-1].name, *self.path, turns)
        return -self._loop_ids.setdefault(("bound", *key), len(self._loop_ids) + 1)

    def new_model(self, name: str, trained: frozenset[int] = frozenset(), parameter: bool = False) -> int:
        """A model with weights of its own."""
        model = self.fresh()
        self.models[model] = name
        self.trace.weights[model] = trained
        if parameter:
            self.trace.parameters.add(model)
        return model

    def new_cell(self) -> int:
        """A storage that holds nothing so far."""
        cell = self.fresh()
        self.cells[cell] = NOTHING
        return cell

    def trained(self, value: Value) -> frozenset[int]:
        """Trainings on validation tokens that went into the weights on which a value depends."""
        if not value.models:
            return value.trained
        return value.trained | self.trace.trained_into(value.models)

    def write(self, target: Value, content: Value) -> None:
        """Change storage in place: everything that shares it sees it."""
        content = blend([content])
        cells = target.cell is not None and [target.cell]
        for cell in cells or []:
            self.cells[cell] = join(self.cells.get(cell, NOTHING), content)
        for thing in target.things:
            if isinstance(thing, Container):
                thing.rest = join(thing.rest, content)

    def content(self, value: Value, depth: int = 4) -> Value:
        """A value with what its storage and the containers in it hold; no objects."""
        self.steps += 1 + len(value.things)
        values = [value]
        for cell in value.cells if value.cell is None else value.cells | {value.cell}:
            values.append(self.cells.get(cell, NOTHING))
        for thing in value.things:
            if isinstance(thing, Container) and depth:
                values.append(self.content(thing.all(), depth - 1))
            elif isinstance(thing, Generator):
                values.extend(thing.scope.variables.values())
            elif isinstance(thing, External) and thing.owner is not None and depth:
                values.append(self.content(thing.owner, depth - 1))
        return blend(values)

    def mix(self, *values: Value) -> Value:
        """What a computation makes of values."""
        return blend([self.content(value) for value in values])

    def assign(self, name: str, value: Value) -> None:
        """Bind a name, where it belongs."""
        scope = self.scope.find(name) if name in self.scope.outer else None
        if scope is None:
            scope = self.module if name in self.scope.outer else self.scope
        elif self.arms:
            value = join(scope.variables[name], value)
        scope.variables[name] = value

    def arms_conditional(self) -> bool:
        """Whether what happens here may also not happen, as far as more than settings decide it."""
        return any(condition[0].isdigit() for condition, _ in self.arms)

    @contextmanager
    def in_arm(self, condition: str, outcome: str, gate: str | None = None) -> Iterator[None]:
        """A branch; `gate` is the environment name without which it is not taken."""
        self.arms.append((condition, outcome))
        if gate:
            self.gates.append(gate)
        try:
            yield
        finally:
            self.arms.pop()
            if gate:
                self.gates.pop()


def constant(value: object) -> Value:
    """A value that is known."""
    return Value(constant=value)


def known(value: Value) -> bool:
    """Whether its constant is known."""
    return value.constant is not UNKNOWN


def is_model(kind: Class) -> bool:
    """Whether instances of a class are models."""
    return kind.derives_from("Module")
