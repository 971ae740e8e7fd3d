"""Abstract semantics of library functions and methods: their effect on validation tokens, weights and losses."""

from __future__ import annotations

import ast
from typing import Any

from golf_fast.audit.script import loops, names, scoring
from golf_fast.audit.script.functions import SPECIAL, collected, into_files
from golf_fast.audit.script.machine import Machine, known
from golf_fast.audit.script.values import (
    NOTHING,
    UNKNOWN,
    WHOLE,
    Container,
    External,
    Function,
    Generator,
    Instance,
    Partial,
    Value,
    join,
)

_COUNTS = frozenset(
    ["numel", "size", "len", "nelement", "dim", "stat", "exists", "nbytes", "qsize", "is_file", "count_nonzero"]
)
_COUNTING = frozenset(["index_put_", "scatter_add_", "index_add_", "put_", "scatter_"])
"""Methods that add to entries of a table whose indices are tokens."""
_CHANGING = frozenset(["sub_", "mul_", "lerp_", "addcdiv_", "set_", "sub", "setdefault"])
_FEW = 4
_PRINTS = frozenset(["print", "log", "info", "write_text", "debug", "warning"])
_SNAPSHOTS = frozenset(["clone", "deepcopy", "copy"])


def external(m: Machine, node: ast.AST, callee: External, positional: list[Value], named: dict[str, Value]) -> Value:
    """What a function of a library gives."""
    last = callee.last
    everything = [*positional, *named.values()]
    special = SPECIAL.get(last)
    if special is not None:
        return special(m, node, callee, (positional, named))
    if last in names.TRANSPARENT:
        if not positional:
            return Value(things=(External(f"transparent.{last}"),))
        return positional[0]
    if callee.path.startswith("transparent.") and positional:
        return positional[0]
    if last in names.PASSED_THROUGH:
        return _passed_through(m, last, positional, named)
    if last in names.CALLERS or "target" in named:
        return _call_argument(m, node, everything, named)
    if last in _COUNTS:
        return m.mix(*everything).with_(parts=NOTHING.parts, losses=NOTHING.losses)
    if last in _PRINTS:
        scoring.printed(m, everything)
        return NOTHING
    mixed = _loaded(m, node, last, m.mix(*everything))
    if last in names.LOADERS and not mixed.parts and not mixed.marks & {"train path", "val path"}:
        mixed = join(mixed, m.files)
        m.trace.weights_read = m.trace.weights_read or "weights" in m.files.marks
    if last in names.IMPURE:
        mixed = mixed.stamped(m.stamps())
    if last == "functional_call" and positional:
        return scoring.model_output(m, node, positional[0], everything[1:])
    if last in ("bincount", "Counter", "histc"):
        return scoring.counted(m, mixed, mixed).with_(cell=m.new_cell())
    if callee.path.endswith("add.at") and positional:
        table = scoring.counted(m, NOTHING, m.mix(*everything[1:]))
        m.write(positional[0], table)
        return NOTHING
    if last in names.LOSSES:
        if mixed.parts and not mixed.losses:
            return scoring.model_output(m, node, NOTHING, everything)
        return scoring.targets_only(m, mixed, everything)
    if last[:1].isupper():
        return _made(m, callee, mixed, everything)
    if last in names.FACTORIES:
        if named.get("requires_grad") is not None:
            model = m.new_model(last, parameter=True)
            mixed = mixed.with_(models=frozenset({model}))
        if last not in ("tensor", "array", "Tensor", "as_tensor", "clone"):
            mixed = mixed.with_(parts=NOTHING.parts, losses=NOTHING.losses, marks=NOTHING.marks, cells=NOTHING.cells)
            mixed = mixed if "requires_grad" in named else mixed.with_(models=NOTHING.models, trained=NOTHING.trained)
        return mixed.with_(cell=m.new_cell())
    if last.endswith("_") or last in (
        "copyto",
        "put",
        "add",
        "all_gather_object",
        "all_gather",
        "broadcast_object_list",
    ):
        _written(m, positional, named)
    return mixed


def method(
    m: Machine, node: ast.AST, holder: Value, name: str, positional: list[Value], named: dict[str, Value]
) -> Value:
    """What a method of an object that is none of the script's gives."""
    everything = [*positional, *named.values()]
    if name == "backward":
        for loss in [holder, *positional[:1]]:
            scoring.backward(m, loss)
        return NOTHING
    if name == "step":
        for value in everything:
            if any(isinstance(thing, Function) for thing in value.things):
                m.call(value, [], {}, node)
        scoring.step(m, join(holder, *everything))
        return NOTHING
    if name == "zero_grad":
        m.trace.pending.clear()
        return NOTHING
    if name == "load_state_dict":
        scoring.load_weights(m, holder, join(*everything))
        return NOTHING
    if name in ("register_forward_hook", "register_forward_pre_hook") and positional:
        m.hooks.append((positional[0], m.frames[-1]))
        return NOTHING.with_(things=(Partial(positional[0], [], {}),))
    if name == "remove":
        m.hooks.clear()
        return NOTHING
    if name in _SNAPSHOTS or name == "state_dict":
        copy = scoring.snapshot(m, holder) if name in _SNAPSHOTS else m.content(holder)
        return copy.with_(things=holder.things if name == "copy" else (), cell=m.new_cell())
    return _common_method(m, node, holder, name, positional, named)


def _common_method(
    m: Machine, node: ast.AST, holder: Value, name: str, positional: list[Value], named: dict[str, Value]
) -> Value:
    everything = [*positional, *named.values()]
    if name in names.ADDING or name in _COUNTING or name in _CHANGING:
        return _added(m, holder, name, everything)
    if name == "requires_grad_" and not holder.models and not holder.things:
        return holder.with_(models=frozenset({m.new_model("tensor", parameter=True)}))
    if name in names.SAME_OBJECT:
        return holder
    if name in ("items", "values", "keys", "get", "pop", "popleft", "split", "chunk", "unbind"):
        return _element_method(m, holder, name, positional)
    if name in _COUNTS:
        return m.content(holder).with_(parts=NOTHING.parts, losses=NOTHING.losses)
    if (name in _PRINTS and (everything or name != "log")) or name == "write":  # without an argument, a logarithm
        return _write(m, holder, name, everything)
    if name in names.CALLERS:
        return _call_argument(m, node, everything, named)
    mixed = _loaded(m, node, name, m.mix(holder, *everything))
    if name in names.LOADERS and not mixed.parts and not mixed.marks & {"train path", "val path"}:
        mixed = join(mixed, m.files)
    if name in names.IMPURE or name.startswith("next"):
        mixed = mixed.stamped(m.stamps())
    if name == "parameters" or name.startswith("named_"):
        return mixed.with_(models=holder.models)
    if holder.models and (mixed.parts or everything) and name not in ("item", "tolist", "sum", "mean", "reshape"):
        if holder.losses or "loss" in holder.marks:
            return mixed
        return scoring.model_output(m, node, holder, everything)
    if name in names.LOSSES and mixed.parts and not mixed.losses:
        return scoring.model_output(m, node, holder, everything)
    return mixed


def gradient_of(m: Machine, output: Value, arguments: list[Value]) -> Value:
    """Gradients of what a function gave."""
    return scoring.gradients(m, output, join(*arguments))


def _added(m: Machine, holder: Value, name: str, everything: list[Value]) -> Value:
    value = join(*everything)
    if name in _COUNTING and not holder.models:
        value = scoring.counted(m, value, value)
    scoring.parameter_written(m, holder, m.content(value) if value.marks else value)
    if name in ("append", "extend", "add", "insert", "appendleft", "put"):
        content = m.content(value)
        if content.parts and content.losses:
            scoring.accumulate(m, holder, content)
        for thing in holder.things:
            if isinstance(thing, Container):
                added = loops.element_of(m, collected(m, value)) if name == "extend" else value
                thing.rest = join(thing.rest, added)
        if not holder.things:
            m.write(holder, value)
        return NOTHING
    if name.startswith(("add", "index_add", "scatter_add")):
        return scoring.accumulate(m, holder, value)
    m.write(holder, value)
    return join(holder, m.content(value).with_(cell=None)).with_(cell=holder.cell, things=holder.things)


def _element_method(m: Machine, holder: Value, name: str, positional: list[Value]) -> Value:
    boxes = [thing for thing in holder.things if isinstance(thing, Container)]
    if not boxes:
        mixed = m.mix(holder, *positional)
        return mixed.stamped(m.stamps()) if name in ("pop", "popleft", "get") and not known(mixed) else mixed
    if name == "items":
        pair = Container({0: NOTHING, 1: join(*(box.all() for box in boxes)).stamped(holder.stamps)})
        return holder.with_(things=(Container(rest=Value(things=(pair,))),), cell=None)
    if name == "keys":
        return NOTHING
    if name in ("get", "pop", "popleft"):
        key = positional[0].constant if positional and name != "popleft" else UNKNOWN
        found = join(*(box.at(key) for box in boxes), *positional[1:]).stamped(holder.stamps)
        return found if name == "get" else found.stamped(m.stamps())
    return holder.with_(things=(Container(rest=join(*(box.all() for box in boxes))),), cell=None)


def _write(m: Machine, holder: Value, name: str, everything: list[Value]) -> Value:
    scoring.printed(m, everything)
    if name == "write":
        content = m.mix(*everything)
        if content.models or content.trained:
            into_files(m, content)
    return NOTHING


def _loaded(m: Machine, node: ast.AST, last: str, mixed: Value) -> Value:
    """What is read from the files of a split is its tokens."""
    if last not in names.LOADERS:
        return mixed
    if "val path" in mixed.marks and not mixed.parts:
        m.trace.loads.append((m.where(), last))
        return mixed.with_(parts=WHOLE, marks=mixed.marks - {"val path", "train path", "bytes"})
    if "train path" in mixed.marks and not mixed.parts:
        m.trace.train_reads.append(m.where())
        if m.trace.weights_read:
            m.trace.train_after_load.append(m.where())
        return mixed.with_(marks=mixed.marks - {"bytes"} | {"train tokens"})
    return mixed


def _made(m: Machine, callee: External, mixed: Value, everything: list[Value]) -> Value:
    """An instance of a library's class: a model, a wrapper of one, an optimizer, or plain data."""
    if callee.last == "Parameter":
        return mixed.with_(models=frozenset({m.new_model("Parameter", parameter=True)}), cell=m.new_cell())
    layer = ".nn." in callee.path or callee.path.startswith(("nn.", "transformers."))
    if mixed.models and not (layer and not any(isinstance(t, Instance) for value in everything for t in value.things)):
        return mixed.with_(cell=m.new_cell())
    if layer:
        return mixed.with_(models=frozenset({m.new_model(callee.last, mixed.trained)}))
    things = tuple(thing for value in everything for thing in value.things if isinstance(thing, Instance))
    return mixed.with_(things=things) if callee.last in ("DataLoader", "Thread", "Process") else mixed


def _passed_through(m: Machine, last: str, positional: list[Value], named: dict[str, Value]) -> Value:
    if not positional:
        return Value(things=(Container(),), cell=m.new_cell())
    first = positional[0]
    generators = [thing for thing in first.things if isinstance(thing, Generator)]
    beside = join(*(loops.element_of(m, collected(m, value)) for value in positional[1:]))
    if generators:
        if last in ("list", "tuple", "sorted", "reversed"):
            return Value(things=(Container(rest=join(*(loops.drain(m, g) for g in generators))),), cell=m.new_cell())
        wrapped = [Generator(g.function, g.scope, (*g.inside, last), beside) for g in generators]
        return first.with_(things=tuple(wrapped))
    marks = ["repeated"] if last == "cycle" or (last == "chain" and len(positional) > 1) else []
    if last == "enumerate":
        element = loops.element_of(m, first)
        pair = Container({0: NOTHING, 1: element})
        return Value(things=(Container(rest=Value(things=(pair,))),), marks=first.marks & {"repeated"})
    if last == "zip":
        pair = Container({place: loops.element_of(m, value) for place, value in enumerate(positional)})
        return Value(things=(Container(rest=Value(things=(pair,))),))
    if any(isinstance(thing, Container) for thing in first.things) and last in ("list", "tuple", "sorted", "reversed"):
        return first.with_(things=(Container(rest=loops.element_of(m, first)),), cell=m.new_cell(), constant=UNKNOWN)
    return first.marked(*marks)


def _is_list(value: Value) -> bool:
    return any(isinstance(thing, Container) for thing in value.things)


def _call_argument(m: Machine, node: ast.AST, everything: list[Value], named: dict[str, Value]) -> Value:
    called = [value for value in everything if any(isinstance(t, Function | Partial) for t in value.things)]
    others = [value for value in everything if not any(value is one for one in called)]
    if "args" in named:  # a thread's arguments stand in a tuple
        boxes = [thing for thing in named["args"].things if isinstance(thing, Container)]
        others = [value for box in boxes for value in box.items.values()]
    if len(others) == 1 and len(called) == 1 and (few := _few(others[0])) is not None and "args" not in named:
        return Value(things=(Container({key: m.call(called[0], [item], {}, node) for key, item in few.items()}),))
    elements = [loops.element_of(m, value) if _is_list(value) and "args" not in named else value for value in others]
    results = [m.call(value, elements, {}, node) for value in called]
    return join(*results) if called else m.mix(*everything)


def _few(value: Value) -> dict[Any, Value] | None:
    """The elements of a tuple or list of a few that are all known, each to be kept apart."""
    boxes = [thing for thing in value.things if isinstance(thing, Container)]
    if len(boxes) != 1 or boxes[0].rest is not NOTHING or not 0 < len(boxes[0].items) <= _FEW:
        return None
    return boxes[0].items if all(isinstance(key, int) for key in boxes[0].items) else None


def _written(m: Machine, positional: list[Value], named: dict[str, Value]) -> None:
    if positional:
        content = m.mix(*positional[1:], *named.values())
        m.write(positional[0], content)
        scoring.parameter_written(m, positional[0], content)
