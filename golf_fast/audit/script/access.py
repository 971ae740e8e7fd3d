"""Abstract evaluation of attributes, elements and slices, including which chunk of the stream an index selects."""

from __future__ import annotations

import ast
import re

from golf_fast.audit.script.machine import Machine, known
from golf_fast.audit.script.statements import bound
from golf_fast.audit.script.values import (
    NOTHING,
    UNKNOWN,
    Class,
    Container,
    External,
    Instance,
    Stamps,
    Value,
    blend,
    join,
)

_OTHER = re.compile(r"count|table|bucket|start|window|hash|offset")
"""Names of arrays that are computed from tokens but do not contain tokens."""
_TRUNCATED = 4097
"""A constant length below which a slice is a header or a window and not a shorter split."""


def attribute(m: Machine, holder: Value, name: str) -> Value:
    """An attribute of what a value may be."""
    found: list[Value] = []
    for thing in holder.things:
        match thing:
            case Instance():
                value = thing.attributes.get(name) or thing.type.lookup(name)
                if value is None:
                    continue
                if "property" in value.marks:
                    value = m.call(bound(value, thing, holder), [], {}, ast.Pass())
                elif name not in thing.attributes:
                    value = bound(value, thing, holder)
                value = value.stamped(holder.stamps)
                found.append(m.moved(value) if name in m.streams else value)
            case Class():
                value = thing.lookup(name)
                if value is not None:
                    found.append(bound(value, thing, holder) if "classmethod" in value.marks else value)
            case External() if thing.owner is None:
                found.append(Value(things=(External(f"{thing.path}.{name}"),)))
            case Container() if name in thing.items:
                found.append(thing.items[name].stamped(holder.stamps))
            case _:
                pass
    if found:
        value = join(*found)
        return value.marked("bytes") if "byte" in name.lower() else value
    if name in ("data", "module", "_orig_mod", "T", "mT"):
        return holder
    content = m.content(holder)
    if name in ("shape", "ndim", "dtype", "device", "size", "nbytes", "itemsize"):
        content = content.with_(parts=NOTHING.parts, losses=NOTHING.losses, models=NOTHING.models)
    elif name.startswith("_"):
        content = content.with_(models=NOTHING.models)  # what a script hangs onto a module is no weight of it
    if name == "grad":
        content = content.marked("grad")
    if "byte" in name.lower():
        content = content.marked("bytes")
    return content.with_(things=(External(name, owner=holder),))


def subscript(m: Machine, node: ast.Subscript) -> Value:
    holder = m.evaluate(node.value)
    if isinstance(node.slice, ast.Slice):
        bounds = [None if part is None else m.evaluate(part) for part in (node.slice.lower, node.slice.upper)]
        key = blend([value for value in bounds if value is not None])
        if bounds[1] is not None and bounds[1].constant == 0 and not isinstance(bounds[1].constant, bool):
            return NOTHING
        _thinned(m, node, node.slice, holder)
        if bounds[1] is not None:
            _truncated(m, node, holder, bounds[1])
        key = key.with_(stamps=key.stamps | _sides(m, node.slice, bounds))
    else:
        key = m.evaluate(node.slice)
    key = _neighbour(m, node.slice, key)
    found: list[Value] = []
    for thing in holder.things:
        match thing:
            case Container() if isinstance(node.slice, ast.Slice):
                found.append(Value(things=(Container(rest=thing.all().stamped(key.stamps | holder.stamps)),)))
            case Container():
                found.append(thing.at(key.constant).stamped(key.stamps | holder.stamps))
            case Instance():
                method = thing.type.lookup("__getitem__")
                if method is not None:
                    found.append(m.call(bound(method, thing, holder), [key], {}, node))
            case _:
                pass
    if found:
        extra = holder.with_(things=(), constant=UNKNOWN, cell=None, cells=holder.cells)
        return join(*found, extra.stamped(key.stamps)).with_(cell=holder.cell if len(found) > 1 else join(*found).cell)
    content = m.content(holder)
    index = m.content(key)
    picked = content.stamped(index.stamps)
    if content.parts and node in m.beyond:
        picked = picked.with_(parts=picked.parts | content.stamped(_next_turn(m, index.stamps)).parts)
    if content.parts:
        return picked.with_(cell=None if index.parts else holder.cell)
    marks = picked.marks | index.marks & {"bytes"}
    return join(picked, index).with_(cell=None if index.parts else holder.cell, marks=marks, constant=UNKNOWN)


def _neighbour(m: Machine, node: ast.expr, key: Value) -> Value:
    """The index of a chunk beside the one of this turn: `chunks[i - 1]`, `tokens[(i - 1) * n : i * n]`."""
    steps: list[ast.AST] = [] if isinstance(node, ast.Slice) else [node]
    if isinstance(node, ast.Slice) and node.lower is not None:
        for child in ast.walk(node.lower):
            if isinstance(child, ast.BinOp) and isinstance(child.op, ast.Mult):
                steps += [child.left, child.right]
    for child in steps:
        if not (isinstance(child, ast.BinOp) and isinstance(child.op, ast.Add | ast.Sub)):
            continue
        if not (isinstance(child.left, ast.Name) and isinstance(child.right, ast.Constant)):
            continue
        away = child.right.value
        turns = {(loop.id, loop.turn) for loop in m.loops} & m.evaluate(child.left).stamps
        if isinstance(away, int) and away and turns:
            away = away if isinstance(child.op, ast.Add) else -away
            moved = {(loop, turn + away) for loop, turn in turns}
            around = {loop for loop, _ in turns}
            return key.with_(stamps=frozenset(stamp for stamp in key.stamps if stamp[0] not in around) | moved)
    return key


def _next_turn(m: Machine, stamps: Stamps) -> Stamps:
    """The stamps of the chunk after this turn's, without the places in the stream at which this one ends."""
    turns = {(loop.id, loop.turn) for loop in m.loops} & stamps
    innermost = next(((loop.id, loop.turn) for loop in reversed(m.loops) if (loop.id, loop.turn) in turns), None)
    kept = frozenset(stamp for stamp in stamps if stamp[0] > 0 and stamp != innermost)
    return kept if innermost is None else kept | {(innermost[0], innermost[1] + 1)}


def _sides(m: Machine, node: ast.Slice, bounds: list[Value | None]) -> Stamps:
    """Stamps of the two sides of a bound: `x[:n]` and `x[n:]` share nothing."""
    found = set()
    for expression, value, side in zip((node.lower, node.upper), bounds, (1, 0), strict=True):
        if value is None or expression is None or (known(value) and isinstance(expression, ast.Constant | ast.UnaryOp)):
            continue
        found.add((m.bound(expression, value), side))
    return frozenset(found)


def _from_the_begin(node: ast.Subscript) -> bool:
    """Whether a slice keeps the begin."""
    lower = node.slice.lower if isinstance(node.slice, ast.Slice) else None
    return lower is None or (isinstance(lower, ast.Constant) and lower.value == 0)


def _thinned(m: Machine, node: ast.Subscript, picked: ast.Slice, holder: Value) -> None:
    """Every second token, row or window of the split, or its first half: less than all of it."""
    content = m.content(holder)
    if not holder.parts or content.losses or holder.models or _OTHER.search(ast.unparse(node.value).lower()):
        return
    # `x[0::2]` goes with an `x[1::2]`: nothing is left out.
    step = picked.step.value if isinstance(picked.step, ast.Constant) and picked.lower is None else 1
    if (isinstance(step, int) and step > 1) or (_from_the_begin(node) and _is_share(picked.upper)):
        m.trace.truncations.append((m.where(), ast.unparse(node)))


def _is_share(node: ast.expr | None) -> bool:
    """Whether a bound is a length divided by a number, or times one below 1."""
    match node:
        case ast.Call(ast.Name("int"), [inner]):
            return _is_share(inner)
        case ast.BinOp(left, ast.FloorDiv() | ast.Div(), ast.Constant(int() | float() as number)):
            return number > 1 and _is_length(left)
        case ast.BinOp(left, ast.Mult(), ast.Constant(float() as number)):
            return number < 1 and _is_length(left)
        case ast.BinOp(ast.Constant(float() as number), ast.Mult(), right):
            return number < 1 and _is_length(right)
        case _:
            return False


def _is_length(node: ast.expr) -> bool:
    return (
        re.fullmatch(r"len\(.+\)|.+\.(numel|nelement)\(\)|.+\.size\(0\)|.+\.shape\[0\]", ast.unparse(node)) is not None
    )


def _truncated(m: Machine, node: ast.Subscript, holder: Value, upper: Value) -> None:
    length = upper.constant
    if not isinstance(length, int) or isinstance(length, bool) or length <= 0:
        return
    content = m.content(holder)
    files = "val path" in content.marks and not content.parts
    if "train path" in content.marks or content.losses:
        return
    is_split = bool(holder.parts) and not _OTHER.search(ast.unparse(node.value).lower())
    if (files and bool(holder.things)) or (is_split and length >= _TRUNCATED and _from_the_begin(node)):
        m.trace.truncations.append((m.where(), ast.unparse(node)))
