"""The lines of a ledger against those that a replay put on record: what was done, and by which weights and adapters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import Finding, flagged, passed, unknown
from golf_fast.audit.run.record import STREAM
from golf_fast.audit.run.replay import Replay
from golf_fast.score.ledger import Event, ranges_of

_LEARNED = ("weights", "adapters")
"""Fields that name by a hash what scored: the same bits only where the replay adds up in the same order."""
_ELSEWHERE = ("max_seconds", "legal", "violations")
"""Fields that a replay does not have, or that follow from others."""


def retraced(evidence: Evidence, replay: Replay, losses: npt.NDArray[np.float32]) -> list[Finding]:
    """What the replay put on record against the run's ledger: all lines of a full one, the scores of a sample."""
    events = evidence.events
    if not replay.events or isinstance(events, Missing) or not limit_on_record(evidence):
        return []
    found = []
    comparable = evidence.result.world_size == 1 or _of_the_stream(evidence)
    if replay.whole and comparable:
        found = _line_by_line(evidence, events, replay.events)
    return [*found, *_hashes(evidence, events, replay, losses)]


def limit_on_record(evidence: Evidence) -> bool:
    """Whether scoring had no limit of time, or the ledger holds what was given up for it."""
    if evidence.config.score.max_seconds == 0:
        return True
    events = evidence.events
    return not isinstance(events, Missing) and bool(events) and "max_seconds" in events[0]


def _of_the_stream(evidence: Evidence) -> bool:
    """Whether all ranks record the same lines as one would."""
    return evidence.config.score.ttt in STREAM and not evidence.config.model.separate_documents


def _line_by_line(evidence: Evidence, events: Sequence[Event], made: Sequence[Event]) -> list[Finding]:
    name = evidence.paths.ledger.name
    for number, (said, again) in enumerate(zip(events, made, strict=False), 1):
        where = f"{name} line {number}"
        if _step(said) != _step(again):
            return [flagged("ledger", f"a replay puts {_step(again)} on record, and not {_step(said)}", where)]
        if other := _other_field(said, again):
            text = f"{other} is {said[other]!s:.40}, a replay puts {again.get(other)!s:.40} on record"
            return [flagged("ledger", text, where)]
    if len(events) != len(made):
        return [flagged("ledger", f"has {len(events)} lines, that of a replay {len(made)}", name)]
    return [passed("ledger", f"a replay puts the same {len(events)} lines on record")]


def _other_field(said: Event, made: Event) -> str:
    """The first field of a record that a replay has otherwise, hashes of what was learned aside."""
    left = {name for name in said if name not in (*_LEARNED, *_ELSEWHERE) and said[name] != made.get(name)}
    return min(left, default="")


def _hashes(
    evidence: Evidence, events: Sequence[Event], replay: Replay, losses: npt.NDArray[np.float32]
) -> list[Finding]:
    """The weights and adapters that scored, where the replay scored the same ranges at once."""
    made = {_place(event): event for event in replay.events if event["event"] == "score"}
    same, count, without = True, 0, 0
    other: Finding | None = None
    for number, said in enumerate(events, 1):
        again = made.get(_place(said)) if said["event"] == "score" else None
        if again is None or ranges_of(again) != ranges_of(said):
            continue
        same = same and _same_losses(ranges_of(said), replay, losses)
        without += any(not said.get(name) for name in _LEARNED if name in again)
        name = next((name for name in _LEARNED if said.get(name) and said[name] != again.get(name)), "")
        count += 1
        if name and other is None:
            ranges = ranges_of(said)
            text = f"targets {ranges[0][0]} to {ranges[-1][1]} were scored by {name} {said[name]!s:.16}"
            text += f", those of a replay with the same losses are {again.get(name)}"
            other = flagged("ledger", text, f"{evidence.paths.ledger.name} line {number}")
    if other is not None and same:
        return [other]
    if without:
        text = f"{without} records name no hash of the weights or adapters that scored; an earlier version wrote them"
        return [unknown("ledger", text)]
    if other is None:
        return [passed("ledger", f"the weights and adapters of {count} scores are those of a replay")] if count else []
    text = "the weights and adapters that scored were not compared: the losses of the replay differ in their rounding"
    return [unknown("ledger", text)]


def _same_losses(ranges: Sequence[tuple[int, int]], replay: Replay, losses: npt.NDArray[np.float32]) -> bool:
    """Whether the replay gives the run's losses of these targets, to the last bit."""
    return all(
        np.array_equal(replay.losses[start:stop], losses[start:stop].astype(np.float64)) for start, stop in ranges
    )


def _place(event: Event) -> tuple[tuple[int, int], int]:
    """The first range of a score, and how many ranges it has."""
    ranges = ranges_of(event)
    return ranges[0], len(ranges)


def _step(event: Event) -> str:
    if event["event"] == "limit":
        return f"limit: {event['done']} of {event['planned']} {event['what']} at {event['place']}"
    if event["event"] not in ("score", "train"):
        return str(event["event"])
    return f"{event['event']} {', '.join(f'{start} to {stop}' for start, stop in ranges_of(event))}"
