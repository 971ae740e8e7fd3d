"""What the walk and the text of a script say about each violation: pass, flag with lines, or unknown."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from golf_fast.audit.script import byte_tables, mixtures, patterns
from golf_fast.audit.script.trace import Scored, Trace, Training, Where
from golf_fast.audit.script.tree import forget
from golf_fast.audit.script.values import overlap
from golf_fast.rules import VIOLATIONS

Outcome = Literal["pass", "flag", "unknown"]


@dataclass(frozen=True)
class Finding:
    """The verdict on one violation."""

    rule: str
    outcome: Outcome
    lines: tuple[int, ...]
    """Lines of the script, taken out of its wrapping, from 1."""
    text: str

    def as_json(self) -> dict[str, Any]:
        """The fields, and the name of the rule."""
        return asdict(self) | {"name": VIOLATIONS[self.rule].name, "lines": list(self.lines)}


def findings(tree: ast.Module, trace: Trace | None, environment: Mapping[str, str]) -> list[Finding]:
    """The verdict on V1 to V14, in order; without a trace, the script was too large to be walked."""
    found = {finding.rule: finding for finding in patterns_of(tree, environment)}
    forget()
    if trace is None:
        for rule in ("V1", "V2", "V3", "V5", "V8"):
            found[rule] = Finding(rule, "unknown", (), "the script is too large to be walked")
    else:
        for finding in (*_order(trace), _split(tree, trace), _outside(tree, trace)):
            found[finding.rule] = finding
    return [found[rule] for rule in VIOLATIONS]


def patterns_of(tree: ast.Module, environment: Mapping[str, str]) -> list[Finding]:
    """The verdicts that are read off the text."""
    found = [
        mixtures.mixtures(tree),
        byte_tables.space_counted_twice(tree),
        byte_tables.byte_tokens(tree),
        patterns.calibration_clock(tree),
        patterns.measured_file(tree),
        patterns.time_limit(tree),
        patterns.documents_leak(tree, environment),
    ]
    listed = [Finding(rule, outcome, tuple(lines), text) for rule, outcome, lines, text in found]
    listed.append(Finding("V12", "unknown", (), "not walked"))
    return [
        *listed,
        Finding("V14", "unknown", (), "one script says nothing about other seeds; compare the code in their logs"),
    ]


def _order(trace: Trace) -> list[Finding]:
    """V1, V2, V3 and V5: who came first, the score or the update."""
    sorted_out: dict[str, list[tuple[Training, Scored]]] = {"V1": [], "V2": [], "V3": [], "V5": []}
    for training, scored in trace.conflicts():
        sorted_out[_kind(training, scored)].append((training, scored))
        if trace.is_score(scored) and any(_same_sum(scored, earlier) for earlier in _before(trace, training)):
            sorted_out["V3"].append((training, scored))
    if not any(not _gates(pair) for pairs in sorted_out.values() for pair in pairs):
        sorted_out["V1"] += trace.unused()
    nothing = _nothing_seen(trace)
    return [_finding(trace, rule, pairs, nothing) for rule, pairs in sorted_out.items()]


def _kind(training: Training, scored: Scored) -> str:
    if training.kind == "parameter":
        return "V5"
    mine, other = dict(training.where.loops), dict(scored.where.loops)
    common = mine.keys() & other.keys()
    same_turn = all(mine[loop] == other[loop] for loop in common)
    picked = {loop for part in training.parts for loop, _ in part} & {loop for part in scored.parts for loop, _ in part}
    return "V2" if same_turn and common & picked and training.kind == "update" else "V1"


def _before(trace: Trace, training: Training) -> list[Scored]:
    return trace.scored[: training.scored_before]


def _same_sum(scored: Scored, earlier: Scored) -> bool:
    return scored.cell is not None and scored.cell == earlier.cell and overlap(scored.parts, earlier.parts)


def _nothing_seen(trace: Trace) -> str | None:
    """Why the order cannot be judged, if it cannot."""
    if trace.dynamic:
        return f"line {trace.dynamic[0].line} executes code that is made at run time"
    if not trace.loads and not trace.scored:
        return "no validation tokens were found"
    if not trace.counted():
        return "no sum of losses of validation tokens was found"
    used = {training.where.line for training in trace.trainings.values()}
    left = [where for where, _ in trace.pending if where.line not in used]  # the last turn's may stay unused
    if left:
        where = left[0]
        return f"line {where.line} takes gradients of validation tokens, and no update that uses them was found"
    return None


_TEXT = {
    "V1": "{train} {verb} before {score} scores them",
    "V2": "{train} {verb} before {score} adds the chunk's loss to the sum",
    "V3": "{score} adds losses to a sum that has them from before {train} changed the weights",
    "V5": "{train} fits a parameter to the tokens that {score} scores with it",
}
_VERBS = {
    "update": "trains on validation tokens",
    "calibration": "calibrates on validation tokens",
    "weights": "makes weights of validation tokens",
    "parameter": "fits a parameter to validation tokens",
    "counts": "counts validation tokens",
}
_PASSES = {
    "V1": "no weights that score validation tokens were made from them before",
    "V2": "in every loop that trains on validation tokens, their loss is in the sum before",
    "V5": "no single parameter is fitted to tokens that are then scored with it",
}


def _finding(trace: Trace, rule: str, pairs: list[tuple[Training, Scored]], nothing: str | None) -> Finding:
    on = [pair for pair in pairs if not _gates(pair)]
    chosen = on or pairs
    lines = tuple(sorted({where.line for pair in chosen for where in (pair[0].where, pair[1].where)}))
    if chosen:
        training, scored = chosen[0]
        text = _TEXT[rule].format(train=_place(training.where), score=_place(scored.where), verb=_VERBS[training.kind])
        if on and not all(_uncertain(training, scored) for training, scored in on):
            return Finding(rule, "flag", lines, text)
        if on:
            return Finding(rule, "unknown", lines, f"{text}, if they are the same tokens")
        names = ", ".join(sorted({name for pair in chosen for name in _gates(pair)}))
        return Finding(rule, "unknown", lines, f"{text}, if {names} says so; by default it does not run")
    if nothing is not None:
        return Finding(rule, "unknown", (), nothing)
    if rule == "V3":
        return Finding(
            rule, "unknown", (), "whether each token is scored exactly once shows in a run and not in a script"
        )
    return Finding(rule, "pass", (), _PASSES[rule])


def _uncertain(training: Training, scored: Scored) -> bool:
    """Whether tokens are counted in a loop that also scores: which are counted when is followed too coarsely there."""
    shared = {loop for loop, _ in training.where.loops} & {loop for loop, _ in scored.where.loops}
    return training.kind == "counts" and bool(shared)


def _gates(pair: tuple[Training, Scored]) -> Iterable[str]:
    return {*pair[0].where.gates, *pair[1].where.gates}


def _place(where: Where) -> str:
    return f"line {where.line} ({where.function})" if where.function != "<module>" else f"line {where.line}"


def _split(tree: ast.Module, trace: Trace) -> Finding:
    wrapped = patterns.wrapped_around(tree) if trace.truncations else set()
    truncations = [(where, text) for where, text in trace.truncations if text not in wrapped]
    cut = [(where, text) for where, text in truncations if not where.gates]
    chosen = cut or truncations
    lines = tuple(sorted({where.line for where, _ in chosen}))
    if cut:
        return Finding("V8", "flag", lines, f"the validation split is cut short: {cut[0][1]}")
    if chosen:
        where, text = chosen[0]
        return Finding(
            "V8", "unknown", lines, f"the validation split is cut short ({text}) if {where.gates[0]} says so"
        )
    if not trace.loads:
        return Finding("V8", "unknown", (), "no validation tokens were found")
    if early := patterns.ends_early(tree, (scored.where.line for scored in trace.counted())):
        return Finding("V8", "unknown", tuple(early), "a loop that scores ends after a number of turns")
    read = tuple(sorted({where.line for where, _ in trace.loads}))
    return Finding("V8", "pass", read, "what is read of the split is not cut short by a number in the script")


def _outside(tree: ast.Module, trace: Trace) -> Finding:
    imports = patterns.network_uses(tree)
    if imports:
        return Finding("V12", "flag", tuple(line for line, _ in imports), f"reaches the network: {imports[0][1]}")
    after = [where for where in trace.train_after_load if not where.gates]
    if after:
        lines = tuple(sorted({where.line for where in after}))
        return Finding("V12", "unknown", lines, "training shards are read after weights were read back from a file")
    if trace.dynamic:
        return Finding("V12", "unknown", (), "code that is made at run time is not judged")
    return Finding("V12", "pass", (), "no network module, and no training shard read after the artifact")
