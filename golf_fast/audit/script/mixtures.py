"""V4: scores that only the true token gets: counts under a hash of it, or the smaller of two losses."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from golf_fast.audit.script.tree import Definition, calls, definitions, last_name, names_in, nodes, outside

Found = tuple[str, Literal["pass", "flag", "unknown"], list[int], str]
Returned = Mapping[str, frozenset[int]]
"""Functions that give back hashes in which the target is: by their name, the places of these in what they return."""

_TARGET = re.compile(r"^(y|yb|tgt|target|targets|next_tok\w*|labels?|true_\w+|y_\w+|\w*tgt\w*|\w*targets?\w*)$")
_LOSS = re.compile(r"nll|loss|logp|log_p|(^|_)lp($|_)")
_READS = ("get", "gather", "take", "index_select")
_COUNTING = re.compile(r"n_?gram|ppm|backoff|kneser|dirichlet|(^|_)ctw", re.IGNORECASE)


def mixtures(tree: ast.Module) -> Found:
    """Counts looked up under a hash of the target, or the smaller of two losses: both sum to more than 1."""
    lines = _lookups(tree)
    if lines and _updated_tables(tree):
        return "V4", "flag", lines, "counts are looked up under a hash of the target itself"
    lines = _smaller_losses(tree)
    if lines:
        return "V4", "flag", lines, "each token gets the smaller of two losses: which one the target decides"
    lines = _counting(tree)
    if lines:
        text = "counts take part in the losses; whether these probabilities sum to 1 the probe of normalization shows"
        return "V4", "unknown", lines, text
    if calls(tree, "cross_entropy", "log_softmax", "nll_loss", "CrossEntropyLoss", "logsumexp"):
        return "V4", "pass", [], "losses come from a softmax over the vocabulary, and no hash of a target is looked up"
    return "V4", "unknown", [], "no softmax over the vocabulary was found"


def _lookups(tree: ast.Module) -> list[int]:
    """Lines that read a table under a hash in which the target is."""
    returned: dict[str, frozenset[int]] = {}
    for _ in range(2):  # through a helper, and a helper of that
        found = {each.name: _keys_returned(each, returned) for each in definitions(tree)}
        returned = {name: places for name, places in found.items() if places}
    lines: set[int] = set()
    for scope in [*definitions(tree), outside(tree)]:
        keyed = _hashes_of_targets(scope, returned)
        for node in nodes(scope) if keyed else ():
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and names_in(node.slice) & keyed:
                lines.add(node.lineno)
            elif isinstance(node, ast.Call) and last_name(node) in _READS:
                lines |= {node.lineno for argument in node.args if names_in(argument) & keyed}
    return sorted(lines)


def _keys_returned(function: Definition, returned: Returned) -> frozenset[int]:
    """The places in what a function returns that are hashes of the target."""
    keyed = _hashes_of_targets(function, returned)
    places: set[int] = set()
    for node in nodes(function):
        if isinstance(node, ast.Return) and node.value is not None:
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for place, value in enumerate(values):
                if names_in(value) & keyed and _is_plain(value):
                    places.add(place)
    return frozenset(places)


def _assigned(scope: ast.AST, returned: Returned) -> tuple[dict[str, list[ast.expr]], set[str]]:
    """The values that each name in a function gets, and the names that get a hash from a helper."""
    made: dict[str, list[ast.expr]] = {}
    given: set[str] = set()
    for node in nodes(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name in names_in(target) if not isinstance(target, ast.Subscript) else ():
                    made.setdefault(name, []).append(node.value)
                given |= _given(target, node.value, returned)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            # As `x = x ^ y`: the operator of `x ^= y` is not in its value.
            made.setdefault(node.target.id, []).append(ast.BinOp(node.target, node.op, node.value))
    return made, given


def _given(target: ast.expr, value: ast.expr, returned: Returned) -> set[str]:
    """The names in an assignment to which a helper's hashes go."""
    names: set[str] = set()
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    for call in nodes(value):
        for place in returned.get(last_name(call), ()) if isinstance(call, ast.Call) else ():
            if place < len(parts) and _is_plain(value, also=last_name(call)):
                names |= names_in(parts[place])
    return names


def _hashes_of_targets(scope: ast.AST, returned: Returned) -> set[str]:
    """Names in a function that hold a hash in which the target is."""
    made, hashes = _assigned(scope, returned)
    targets = {name for name in {*made, *names_in(scope)} if _TARGET.match(name.lower())}
    targets |= {name for name, values in made.items() if any(_is_shifted(value) for value in values)}
    predicted = _predicted(scope)
    read = {name: set().union(*(names_in(value) for value in values)) for name, values in made.items()}
    mixed = {name for name, values in made.items() if any(_is_hash(value) for value in values)}
    plain = {name for name, values in made.items() if all(_is_plain(value) for value in values)}
    peeks = {name for name, values in made.items() if predicted and _holds(values, predicted)}
    for _ in range(len(made) + 1):
        before = len(hashes) + len(targets)
        for name, used in read.items():
            of_target = bool(used & targets) or name in peeks
            if (of_target and name in mixed) or (used & hashes and name in plain):
                hashes.add(name)
            elif of_target and name in plain:
                targets.add(name)
        if len(hashes) + len(targets) == before:
            break
    return hashes


def _holds(values: Sequence[ast.expr], wanted: set[int]) -> bool:
    return any(id(node) in wanted for value in values for node in nodes(value))


def _predicted(scope: ast.AST) -> set[int]:
    """Tokens at a place whose context is read at that place less something: `tokens[at]` beside `tokens[at - k]`."""
    whole: list[tuple[tuple[str, str], int]] = []
    before: set[tuple[str, str]] = set()
    here: set[tuple[str, str]] = set()
    for node in nodes(scope):
        if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
            continue
        index = node.slice
        if isinstance(index, ast.Name):
            whole.append(((node.value.id, index.id), id(node)))
        elif isinstance(index, ast.BinOp) and isinstance(index.op, ast.Sub) and isinstance(index.left, ast.Name):
            # `at - k` for k from 0 on has the token itself: then it is no target, but the last of a context.
            (here if _from_zero(scope, index.right) else before).add((node.value.id, index.left.id))
    return {number for key, number in whole if key in before - here}


def _from_zero(scope: ast.AST, less: ast.expr) -> bool:
    """Whether what is taken off is the variable of a loop from 0 on."""
    loops = [node for node in nodes(scope) if isinstance(node, ast.For) and isinstance(node.target, ast.Name)]
    return isinstance(less, ast.Name) and any(
        isinstance(loop.target, ast.Name) and loop.target.id == less.id and _begins_at_zero(loop.iter) for loop in loops
    )


def _begins_at_zero(iterated: ast.expr) -> bool:
    return isinstance(iterated, ast.Call) and last_name(iterated) == "range" and len(iterated.args) == 1


def _smaller_losses(tree: ast.Module) -> list[int]:
    """Lines where single tokens get the smaller of two losses."""
    lines = [
        call.lineno
        for call in calls(tree, "minimum", "fmin")
        if len(call.args) == 2 and all(_is_loss(argument) for argument in call.args)
    ]
    for node in nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and len(node.test.ops) == 1):
            continue
        if not isinstance(node.test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            continue
        sides = [node.test.left, *node.test.comparators]
        if not all(isinstance(side, ast.Name) and _is_loss(side) for side in sides):
            continue
        for kept in node.body:
            of_a_token = isinstance(kept, ast.Assign) and isinstance(kept.targets[0], ast.Subscript)
            if of_a_token and names_in(kept) & names_in(node.test) and _is_loss(kept):
                lines.append(node.lineno)
    return sorted({*lines, *_gates(tree)})


def _gates(tree: ast.Module) -> list[int]:
    """Lines that compare two losses of single tokens, where the outcome picks or weighs these losses."""
    found = []
    for scope in [*definitions(tree), outside(tree)]:
        made, _ = _assigned(scope, {})
        single = {name for name, values in made.items() if any(map(_is_of_tokens, values))}
        for node in nodes(scope) if len(single) > 1 else ():
            if not (isinstance(node, ast.Compare) and _are_names(node, single)):
                continue
            compared = names_in(node)
            gates = {name for name, values in made.items() if any(node in nodes(value) for value in values)}
            for use in nodes(scope):
                picks = isinstance(use, ast.Call) and last_name(use) == "where" and use.args
                weighs = isinstance(use, ast.BinOp) and isinstance(use.op, ast.Mult)
                if not (picks or weighs) or not names_in(use) & compared:
                    continue
                chosen_by = use.args[0] if isinstance(use, ast.Call) else use
                if node in nodes(chosen_by) or names_in(chosen_by) & gates:
                    found.append(node.lineno)
    return found


def _is_of_tokens(node: ast.expr) -> bool:
    """Whether an expression is a loss of each token: without a reduction, or gathered from a softmax."""
    unreduced = [
        call
        for call in calls(node, "cross_entropy", "nll_loss")
        if any(
            word.arg == "reduction" and isinstance(word.value, ast.Constant) and word.value.value == "none"
            for word in call.keywords
        )
    ]
    return bool(unreduced) or bool(calls(node, "gather") and calls(node, "log_softmax", "log"))


def _are_names(node: ast.Compare, wanted: set[str]) -> bool:
    sides = [node.left, *node.comparators]
    ordered = len(node.ops) == 1 and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return ordered and all(isinstance(side, ast.Name) and side.id in wanted for side in sides)


def _is_loss(node: ast.AST) -> bool:
    return any(_LOSS.search(name.lower()) for name in names_in(node))


def _counting(tree: ast.Module) -> list[int]:
    """Where functions and classes are defined whose names tell of counts, and which take a logarithm or a share."""
    found = []
    for node in nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and _COUNTING.search(node.name):
            divides = any(isinstance(each, ast.BinOp) and isinstance(each.op, ast.Div) for each in nodes(node))
            if divides or calls(node, "log", "log1p", "log_softmax"):
                found.append(node.lineno)
    return found


def _is_shifted(node: ast.expr) -> bool:
    """A slice of tokens that begins one later: what is to be predicted."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and node.slice.lower is not None):
        return False
    lower = node.slice.lower
    return (isinstance(lower, ast.Constant) and lower.value == 1) or (
        isinstance(lower, ast.BinOp) and isinstance(lower.right, ast.Constant) and lower.right.value == 1
    )


def _is_hash(node: ast.expr) -> bool:
    operators = {type(child.op) for child in nodes(node) if isinstance(child, ast.BinOp)}
    called = {last_name(call) for call in nodes(node) if isinstance(call, ast.Call)}
    mixing = ast.BitXor in operators or bool(called & {"bitwise_xor", "hash"})
    return mixing or (ast.Mult in operators and bool(operators & {ast.BitAnd, ast.Mod}))


def _is_plain(node: ast.expr, also: str = "") -> bool:
    """A cast, a mask, a reshaping: the same thing in another form."""
    called = {last_name(call) for call in nodes(node) if isinstance(call, ast.Call)}
    plain = {
        "astype",
        "to",
        "long",
        "int",
        "int64",
        "reshape",
        "view",
        "cpu",
        "numpy",
        "asarray",
        "remainder",
        "flatten",
    }
    return called <= plain | {"uint64", "int32", "array", "clone", "contiguous", also or "astype"}


def _updated_tables(tree: ast.AST) -> bool:
    if calls(tree, "scatter_add_", "index_add_", "bincount", "put_", "index_put_", "defaultdict", "Counter", "add_at"):
        return True
    for node in nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add.at"):
            return True
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript):
            return True
    return False
