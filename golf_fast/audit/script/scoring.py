"""What training and scoring do to the trace: gradients, updates, sums of losses, bits per byte."""

from __future__ import annotations

import ast

from golf_fast.audit.script import names
from golf_fast.audit.script.machine import Machine
from golf_fast.audit.script.trace import Forward
from golf_fast.audit.script.values import NOTHING, Container, Value, intersection, join


def accumulate(m: Machine, before: Value, addend: Value) -> Value:
    """`before + addend`, in place where it has a storage; a loss of validation tokens counts from here on."""
    content = m.content(addend)
    scores = bool(content.parts and content.losses)
    cell = before.cell
    if scores and cell is None:
        cell = m.new_cell()
        m.cells[cell] = m.content(before)
    if scores:
        m.trace.score(m.where(), _about(m, content), m.trained(content), cell)
    if cell is not None:
        m.cells[cell] = join(m.cells.get(cell, NOTHING), content)
        return before.with_(
            cell=cell,
            cells=before.cells | {cell},
            stamps=before.stamps | content.stamps,
            marks=before.marks | content.marks - {"ln2"},
            constant=NOTHING.constant,
        )
    return m.mix(before, addend).with_(things=before.things)


def _about(m: Machine, loss: Value) -> Value:
    """A loss with those of its tokens that its models were run for; what a cache in it holds is history."""
    forwards = [m.trace.forwards[number].parts for number in loss.losses if number in m.trace.forwards]
    seen = frozenset(part for parts in forwards for part in parts)
    shared = intersection(loss.parts, seen)
    return loss.with_(parts=shared) if shared else loss


def report(m: Machine, loss: Value, scale: Value, per_byte: bool) -> None:
    """A loss meets ln 2, or is divided by a number of bytes: what it is the sum of is a score."""
    if "ln2" not in scale.marks and not (per_byte and "bytes" in scale.marks):
        return
    content = m.content(loss)
    if not content.losses:
        return
    cells = content.cells | (frozenset() if loss.cell is None else frozenset({loss.cell}))
    m.trace.reported |= cells
    summed = {scored.cell for scored in m.trace.scored}
    if cells & summed or "ln2" not in scale.marks:
        return
    for number in content.losses:
        forward = m.trace.forwards.get(number)
        if forward is not None and forward.parts:
            value = Value(parts=forward.parts, models=forward.models, losses=frozenset({number}))
            m.trace.score(forward.where, value, forward.trained, None)


def printed(m: Machine, values: list[Value]) -> None:
    """What is printed of losses that were not summed: a score where there is no other."""
    from golf_fast.audit.script.trace import Scored

    for value in values:
        for number in m.content(value).losses:
            forward = m.trace.forwards.get(number)
            if forward is not None and forward.parts:
                numbers = frozenset({number})
                scored = Scored(forward.where, forward.parts, forward.models, forward.trained, None, numbers)
                m.trace.printed.append(scored)


def backward(m: Machine, loss: Value) -> None:
    """Gradients of a loss: of validation tokens, they wait for the update that uses them."""
    content = m.content(loss)
    m.trace.backward_losses |= content.losses
    if content.parts:
        m.trace.pending.append((m.where(), content))


def step(m: Machine, optimizer: Value) -> None:
    """An update: all gradients of validation tokens that wait become trainings."""
    own = m.content(optimizer).models
    for where, value in m.trace.pending:
        models = (value.models & own) or value.models or own
        m.trace.train(where, "update", value, models)
    m.trace.pending.clear()


def gradients(m: Machine, loss: Value, weights: Value) -> Value:
    """Gradients as a value (`autograd.grad`): of validation tokens, they are an update."""
    content = m.content(loss)
    m.trace.backward_losses |= content.losses
    if content.parts:
        models = content.models | m.content(weights).models
        m.trace.train(m.where(), "update", content, models)
    return m.mix(loss, weights).marked("grad")


def parameter_written(m: Machine, target: Value, value: Value) -> None:
    """Weights are written in place: with gradients, with a copy of weights, or with what tokens say."""
    if "grad" in value.marks:
        step(m, target)
        return
    if not target.models or "loss" in target.marks:
        return
    content = m.content(value)
    trained = content.trained | (m.trace.trained_into(content.models) if content.models else frozenset())
    for model in target.models:
        m.trace.weights[model] = m.trace.weights.get(model, frozenset()) | trained
    if content.parts and not content.losses and not content.trained:
        m.trace.train(m.where(), "weights", content, target.models)


def counted(m: Machine, table: Value, tokens: Value) -> Value:
    """A table of counts that validation tokens went into: what is predicted with it was learned from them."""
    content = m.content(tokens)
    if not content.parts or content.losses or table.losses:
        return table
    return table.with_(trained=table.trained | {m.trace.count(m.where(), content)})


def load_weights(m: Machine, target: Value, source: Value) -> None:
    """`load_state_dict`: the weights are those of the source now."""
    content = m.content(source)
    trained = content.trained | (m.trace.trained_into(content.models) if content.models else frozenset())
    for model in m.content(target).models:
        old = m.trace.weights.get(model, frozenset()) if m.arms_conditional() else frozenset()
        m.trace.weights[model] = old | trained


def snapshot(m: Machine, value: Value) -> Value:
    """A copy of weights: later trainings do not reach it."""
    content = m.content(value)
    if not content.models and not content.trained:
        return value
    trained = content.trained | (m.trace.trained_into(content.models) if content.models else frozenset())
    return content.with_(models=frozenset(), trained=trained)


def _of_targets(m: Machine, mixed: Value, arguments: list[Value]) -> Value:
    """What a loss is about: the tokens that were given, and not those that came through another output of a model.

    A state that is carried on from the chunk before is context of this chunk.
    """
    contents = [m.content(argument) for argument in arguments]
    plain = [content.parts for content in contents if content.parts and not content.losses]
    return mixed.with_(parts=frozenset().union(*plain)) if plain else mixed


def targets_only(m: Machine, mixed: Value, arguments: list[Value]) -> Value:
    """As the function above, for a loss of logits and targets."""
    return _of_targets(m, mixed, arguments).marked("loss")


def model_output(m: Machine, node: ast.AST, model: Value, arguments: list[Value]) -> Value:
    """What a model gives for its arguments: predictions or a loss."""
    m.line = getattr(node, "lineno", m.line)
    given = _of_targets(m, m.mix(model, *arguments), arguments)
    if not given.parts:
        return given.marked("loss")
    number = m.fresh()
    trained = m.trained(given)
    m.trace.forwards[number] = Forward(m.where(), given.parts, given.models, trained)
    output = given.with_(losses=frozenset({number}), trained=trained).marked("loss")
    hooks, m.hooks = m.hooks, []
    watching = []
    for hook, registered in hooks:
        inputs = Value(things=(Container({0: given.with_(losses=frozenset())}),))
        result = m.call(hook, [model, inputs, given.with_(losses=frozenset())], {}, node)
        if result is NOTHING:  # it gives no other output: it watches
            watching.append(registered)
    m.hooks = hooks
    measures = any(names.is_calibration(frame.name) for frame in m.frames)
    if measures or any(frame in m.frames for frame in watching):
        tokens = m.mix(*arguments)
        if tokens.parts:
            m.trace.train(m.where(), "calibration", tokens, given.models)
    return output
