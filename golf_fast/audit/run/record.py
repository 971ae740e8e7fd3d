"""The ledger of a run as a record: its lines, the tokens and weights that they name, and what rule breaks where."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golf_fast.audit.run.finding import Finding, flagged, passed, unknown
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.rules import VIOLATIONS
from golf_fast.score import digest
from golf_fast.score.ledger import CUTS, Event, ranges_of
from golf_fast.score.verdict import Records
from golf_fast.score_config import ScoreConfig

_MOST_TARGETS = 1 << 31
_COUNTS: dict[str, tuple[str, ...]] = {
    "begin": ("targets",),
    "adapt": ("size",),
    "limit": ("place", "done", "planned"),
    "end": (),
}
"""Fields that are whole numbers, by the kind of a record."""
_KINDS = ("score", "train", *_COUNTS)
STREAM = ("off", "chunked", "held_out", "train_then_score")
"""Strategies that score one uncut stream; the others score document by document."""


def checked(events: list[Event], path: Path) -> list[Event]:
    """The records of a ledger, each with the fields that its kind has.

    Raises:
        InputError: one line; a record lacks a field of its kind or holds a wrong value, with its line and field.
    """
    for number, event in enumerate(events, 1):
        kind = event["event"]
        if kind in ("score", "train"):
            _check_ranges(event, path, number)
        elif kind in _COUNTS:
            for name in _COUNTS[kind]:
                if not _is_count(event.get(name)):
                    raise _no_count(event.get(name), name, path, number)
            if kind == "limit" and event.get("what") not in CUTS:
                said = f"what is {event.get('what')!r:.40}; a limit cuts {', '.join(CUTS)}"
                raise InputError(f"{path}: line {number}: {said}")
        else:
            raise InputError(f"{path}: line {number}: the event is {kind!r:.40}; a ledger has {', '.join(_KINDS)}")
    return events


def _check_ranges(event: Event, path: Path, number: int) -> None:
    ranges = event["ranges"] if "ranges" in event else [[event.get("start"), event.get("stop")]]
    if not isinstance(ranges, list) or not ranges:
        raise InputError(f"{path}: line {number}: ranges must be a list of pairs")
    for pair in ranges:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"{path}: line {number}: a range must be two numbers")
        for value, name in zip(pair, ("start", "stop"), strict=True):
            if not _is_count(value):
                raise _no_count(value, name, path, number)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_TARGETS


def _no_count(value: object, name: str, path: Path, number: int) -> InputError:
    where = f"{path}: line {number}: {name}"
    return InputError(f"{where} is {str(value)[:40]}; it must be a whole number from 0 to {_MOST_TARGETS}")


def outline(
    events: Sequence[Event], path: Path, config: ScoreConfig, finished: bool, records: Records
) -> list[Finding]:
    """Whether the ledger has one begin and one end, the strategy of the settings, and the end that its records make."""
    kinds = [event["event"] for event in events]
    found = []
    if kinds[:1] != ["begin"]:
        found.append(flagged("ledger", "does not start with begin", _line(path, 1)))
    for number, kind in enumerate(kinds[1:], 2):
        if kind == "begin":
            found.append(flagged("V3", "a second pass begins in the ledger of one", _line(path, number)))
        elif kinds[number - 2] == "end":
            found.append(flagged("ledger", "goes on after its end", _line(path, number)))
    if finished and kinds.count("end") != 1:
        found.append(flagged("ledger", "has no end, and the run says that it finished", str(path)))
    wanted = {"strategy": config.ttt, "max_seconds": config.max_seconds}
    for name, value in wanted.items():
        said = events[0].get(name) if events else None
        if said is None and name == "strategy" and events:
            found.append(
                unknown("settings", "the ledger names no strategy; an earlier version wrote it", _line(path, 1))
            )
        elif said is not None and said != value:
            field = "ttt" if name == "strategy" else name
            found.append(
                flagged("settings", f"the ledger has the {name} {said}, score.{field} is {value}", _line(path, 1))
            )
    if "limit" in kinds and config.max_seconds == 0:
        text = "something was given up for a limit of time, and there was none"
        found.append(flagged("ledger", text, _line(path, kinds.index("limit") + 1)))
    found += [*_elsewhere(events, path, config), *_ended(events, path, records)]
    trains = [number for number, kind in enumerate(kinds, 1) if kind == "train"]
    if trains and config.ttt in ("off", "held_out"):
        found.append(flagged("settings", f"score.ttt is {config.ttt}, and there is training", _line(path, trains[0])))
    return found


def _elsewhere(events: Sequence[Event], path: Path, config: ScoreConfig) -> list[Finding]:
    """Whether training on tokens that are not scored came first, is what the settings ask for, and all of it."""
    numbers = [number for number, event in enumerate(events, 1) if event["event"] == "adapt"]
    if not numbers:
        return []
    first_score = next((number for number, event in enumerate(events, 1) if event["event"] == "score"), len(events))
    if config.ttt != "held_out":
        text = f"score.ttt is {config.ttt}, and the weights adapted to other tokens"
        return [flagged("settings", text, _line(path, numbers[0]))]
    if len(numbers) > 1 or numbers[0] > first_score:
        return [flagged("ledger", "the weights adapted to other tokens again, or late", _line(path, numbers[-1]))]
    size = events[numbers[0] - 1]["size"]
    if size > config.held_out.tokens:
        text = f"has {size:,} tokens, score.held_out.tokens is {config.held_out.tokens:,}"
        return [flagged("settings", text, _line(path, numbers[0]))]
    return []


def _ended(events: Sequence[Event], path: Path, records: Records) -> list[Finding]:
    """Whether the end says of the pass what its records say."""
    if not events or events[-1]["event"] != "end":
        return []
    said = events[-1]
    wanted = {"targets": records.targets, "violations": sorted(records.violations), "legal": not records.violations}
    return [
        flagged("ledger", f"{name} is {said[name]!s:.40}, its records make it {value}", _line(path, len(events)))
        for name, value in wanted.items()
        if name in said and (sorted(map(str, said[name])) if isinstance(said[name], list) else said[name]) != value
    ]


def tokens_named(events: Sequence[Event], tokens: npt.NDArray[np.uint16], path: Path) -> list[Finding]:
    """Whether the hash of every record is that of the tokens in its ranges, and how many targets there are."""
    targets = len(tokens) - 1
    if events and events[0].get("targets") != targets:
        said = events[0].get("targets")
        return [flagged("ledger", f"is of {said} targets, the tokens of the run have {targets}", _line(path, 1))]
    counted, without = 0, 0
    for number, event in enumerate(events, 1):
        if event["event"] not in ("score", "train"):
            continue
        if "tokens" not in event:
            without += 1
            continue
        ranges = ranges_of(event)
        if digest.of_tokens(tokens, ranges) != event["tokens"]:
            (start, _), (_, stop) = ranges[0], ranges[-1]
            text = f"the hash of targets {start} to {stop} is not that of the run's validation tokens"
            return [flagged("ledger", text, _line(path, number))]
        counted += 1
    if without:
        return [unknown("ledger", f"{without} records name no hash of their tokens; an earlier version wrote them")]
    return [passed("ledger", f"the {targets:,} targets and {counted} hashes of tokens are those of the run's shards")]


def weights_named(events: Sequence[Event], path: Path, artifact: str | None, exact: bool) -> list[Finding]:
    """Whether the first scores are by the artifact's weights.

    Args:
        artifact: hash of the artifact's weights; None where there are none to hash.
        exact: whether the weights have the same bits on every device.
    """
    scores = [(number, event) for number, event in enumerate(events, 1) if event["event"] == "score"]
    if not scores or not all(event.get("weights") for _, event in scores):
        return [unknown("artifact", "the ledger names no hash of the weights; an earlier version wrote it")]
    number, first = scores[0]
    if artifact is None or any(_changes_weights(event) for event in events[: number - 1]):
        return [unknown("artifact", "nothing was scored by the artifact's own weights")]
    if first["weights"] == artifact:
        return [passed("artifact", f"its weights are those of the first score, {artifact}", _line(path, number))]
    text = f"the first score is by weights {first['weights']!s:.16}, those of the artifact are {artifact}"
    return [(flagged if exact else unknown)("artifact", text, _line(path, number))]


def documents_kept_apart(
    events: Sequence[Event], tokens: npt.NDArray[np.uint16], bos: int, path: Path, config: RunConfig
) -> Finding:
    """V13: whether each range lies in one document, where the strategy or the model declares documents separate."""
    if config.score.ttt in STREAM and not config.model.separate_documents:
        return passed("V13", "one uncut stream is scored; no document is declared separate")
    bounds = np.unique(np.concatenate(([0], np.flatnonzero(tokens[:-1] == bos), [len(tokens) - 1]))).tolist()
    for number, event in enumerate(events, 1):
        if event["event"] == "score":
            for start, stop in ranges_of(event):
                place = bisect_right(bounds, start)
                if place == len(bounds) or bounds[place] < stop:
                    return flagged("V13", f"targets {start} to {stop} are of two documents", _line(path, number))
    return passed("V13", f"every range lies in one of {len(bounds) - 1:,} documents")


def what_line(events: Sequence[Mapping[str, Any]], number: int) -> str:
    """A line of a ledger in words."""
    event = events[number - 1]
    if event["event"] not in ("score", "train"):
        return str(event["event"])
    verb = "scored" if event["event"] == "score" else "trained on"
    ranges = event.get("ranges", [[event.get("start"), event.get("stop")]])
    return f"targets {ranges[0][0]} to {ranges[-1][1]} are {verb}"


def by_line(events: Sequence[Event], rule: str, path: Path, number: int | None) -> Finding:
    """The finding for a broken rule.

    Args:
        number: line of the ledger that breaks it, from 1; None if no line does.
    """
    text = VIOLATIONS[rule].text
    if number is None:
        return flagged(rule, text)
    return flagged(rule, f"{what_line(events, number)}. {text}", _line(path, number))


def _changes_weights(event: Mapping[str, Any]) -> bool:
    return event["event"] == "adapt" or (event["event"] == "train" and bool(event.get("window", 0)))


def _line(path: Path, number: int) -> str:
    return f"{path.name} line {number}"
