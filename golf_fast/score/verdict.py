"""The verdict on a run: a function from the records of a run to the rules that it breaks.

Scoring, the result of a run and an audit all call `judge`; no statement of a file about itself is trusted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from golf_fast.data.overlap import Overlap
from golf_fast.rules import (
    EVALUATION_LIMIT_SECONDS,
    RANKED_DEVICES,
    TRAIN_LIMIT_SECONDS,
    VALIDATION_TARGETS,
    in_words,
    is_legal,
)
from golf_fast.score.coverage import Coverage

Order = Literal["stream", "length"]

MOST_DOCUMENTS_SHARED = 0.1
"""Share of the held-out documents that may stand in the training text word for word: web text repeats itself."""
MOST_SPANS_SHARED = 0.5
"""Share of sampled spans of the held-out text that may stand in the training text."""


@dataclass(frozen=True)
class Facts:
    """Facts about a run besides its ledger; None: unknown.

    Attributes:
        finished: whether the run finished.
        planned: rules that the configured protocol would break, for a run that ended before it was scored.
        window: length of a scored row in tokens; the rest of the split after whole rows is not scored.
        split_targets: number of targets of the validation split on disk.
        variant: of the challenge's data (a key of `rules.VALIDATION_TARGETS`), "" for other data.
        train_limit: time limit of training in seconds; 0: no limit.
        train_seconds: seconds that training took.
        quantize_seconds: seconds of calibration and quantization if these read training tokens, else 0.
        eval_limit: time limit of the evaluation in seconds; 0: that of the challenge on its own machine.
        eval_seconds: seconds that the evaluation took.
        device: name of the devices.
        world_size: number of devices.
        overlap: the overlap of the validation text with the training text.
    """

    finished: bool | None = None
    planned: Sequence[str] = ()
    window: int | None = None
    split_targets: int | None = None
    variant: str | None = None
    train_limit: float | None = None
    train_seconds: float | None = None
    quantize_seconds: float | None = None
    eval_limit: float | None = None
    eval_seconds: float | None = None
    device: str | None = None
    world_size: int | None = None
    overlap: Overlap | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict that `judge` returns.

    Attributes:
        violations: the rules broken, by number.
        not_judged: what could not be judged, and why. An entry that begins with the number of a rule leaves open
            whether the run is legal; others state the conditions under which it is.
        track: "A" for a fixed predictor, "B" for one that adapts to scored tokens.
        order: the order in which documents were scored.
    """

    violations: list[str]
    not_judged: list[str]
    track: Literal["A", "B"]
    order: Order

    @property
    def legal(self) -> bool:
        """Whether no rule is broken, and the run left none undecided."""
        return is_legal(self.violations, self.not_judged)

    @property
    def words(self) -> str:
        """The verdict as a text."""
        return in_words(self.violations, self.not_judged)


def judge(events: Iterable[Mapping[str, Any]] | Records, facts: Facts) -> Verdict:
    """The verdict on the records of a ledger and the facts of its run.

    Args:
        events: the events of `ledger.jsonl` in order, or their `Records`; empty if nothing was scored.
    """
    ledger = events if isinstance(events, Records) else Records(events)
    found, unjudged = list(facts.planned), list[str]()
    if facts.finished is False:
        unjudged.append("the run did not finish")
    elif facts.finished and not ledger.complete:
        found.append("V3")
    found += ledger.violations
    _judge_split(ledger.targets, facts, found, unjudged)
    _judge_overlap(facts, found, unjudged)
    _judge_time(facts, found, unjudged)
    if ledger.trained_elsewhere:
        unjudged.append(f"evaluation: adapted to {ledger.trained_elsewhere:,} training tokens, which must ship with it")
    if ledger.cut:
        unjudged.append(f"adapting: cut short {ledger.cut} times, to score within score.max_seconds")
    if ledger.order != "stream":
        unjudged.append("order: documents were not scored in the order of the stream, which reviewers dispute")
    numbers = sorted(set(found), key=lambda number: int(number[1:]))
    return Verdict(numbers, unjudged, "B" if ledger.adapted else "A", ledger.order)


class Records:
    """A summary of the records of a ledger, which are added one by one.

    Attributes:
        targets: number of targets of the pass.
        adapted: whether targets were trained on.
        trained_elsewhere: number of training tokens that were trained on before or during the pass.
        order: the order in which documents were scored.
        cut: number of times that adaptation was cut short by the time limit.
        unexplained: number of the first scoring record whose weights had changed without a record of what they learned;
            0: there is none.
        violations: the rules that the records break, each with the number of the first record that does.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]] = ()) -> None:
        self.targets = 0
        self.adapted = False
        self.trained_elsewhere = 0
        self.order: Order = "stream"
        self.cut = 0
        self.unexplained = 0
        self.violations: dict[str, int] = {}
        self._weights, self._learned = "", True
        self._number = 0
        self._scored = Coverage(0)
        self._furthest = -1  # the latest document of the stream that was begun so far
        for event in events:
            self.take(event)

    @property
    def complete(self) -> bool:
        """Whether every target was scored."""
        return self._scored.complete

    def take(self, event: Mapping[str, Any]) -> None:
        """Add the next record."""
        self._number += 1
        kind = event.get("event")
        if kind == "begin":
            if self.targets:  # an earlier pass has scored the targets already
                self._broken("V3")
            self.targets = int(event["targets"])
            self._scored = Coverage(self.targets)
        elif kind == "adapt":
            self.trained_elsewhere += int(event["size"])
            self._learned = True
        elif kind == "limit":
            self.cut += 1
        elif kind in ("score", "train"):
            self._watch(event)
            ranges = event.get("ranges") or [[event["start"], event["stop"]]]
            begins = event.get("begins")
            if begins:
                if min(start for start, _ in ranges) < self._furthest:
                    self.order = "length"
                self._furthest = max(start for start, _ in ranges)
            for start, stop in ranges:
                if not 0 <= start < stop <= self.targets:
                    self._broken("V3")
                elif kind == "score":
                    self._score(start, stop, begins)
                else:
                    self._train(start, stop)

    def _watch(self, event: Mapping[str, Any]) -> None:
        """Check that the scoring weights have not changed since the last record, or that their training is recorded."""
        if event["event"] == "train":
            self._learned |= bool(event.get("window"))
            return
        weights = event.get("weights") or self._weights
        if weights != self._weights and self._weights and not self._learned:
            self.unexplained = self.unexplained or self._number
            self._broken("V1")
        self._weights, self._learned = weights, False

    def _score(self, start: int, stop: int, begins: bool | None) -> None:
        """Add a scored range; `begins` says whether it is the first of its document (None: the stream has none)."""
        scored = self._scored
        follows = scored.frontier >= start if begins is None else begins or not start or scored.any(start - 1, start)
        if not follows or scored.any(start, stop):
            self._broken("V3")
        scored.mark(start, stop)

    def _train(self, start: int, stop: int) -> None:
        self.adapted = True
        if not self._scored.all(start, stop):
            self._broken("V1")
        elif self._scored.complete:
            self._broken("V3")

    def _broken(self, rule: str) -> None:
        self.violations.setdefault(rule, self._number)


def _judge_split(targets: int, facts: Facts, found: list[str], unjudged: list[str]) -> None:
    if not targets:
        return
    if facts.variant and targets < VALIDATION_TARGETS[facts.variant]:
        found.append("V8")
    if facts.split_targets is None:
        return
    if targets < facts.split_targets - facts.split_targets % (facts.window or 1):
        found.append("V8")
    elif facts.variant == "":
        unjudged.append("split: no variant of the challenge's data; it was scored whole")


def _judge_overlap(facts: Facts, found: list[str], unjudged: list[str]) -> None:
    overlap = facts.overlap
    if overlap is None:
        return
    if overlap.documents_shared > MOST_DOCUMENTS_SHARED or overlap.spans_shared > MOST_SPANS_SHARED:
        found.append("V1")
    elif overlap.partial:
        unjudged.append(f"overlap: {overlap.partial}")


def _judge_time(facts: Facts, found: list[str], unjudged: list[str]) -> None:
    if facts.train_limit is not None:
        if facts.train_limit <= 0:
            unjudged.append("V9, V11: training had no limit of time")
        elif facts.train_seconds is None:
            unjudged.append("V9, V11: no record says how long training took")
        else:
            limit = train_limit(facts)
            quantized = facts.quantize_seconds or 0.0
            if quantized > 0 and facts.train_seconds + quantized > limit:
                found.append("V9")
            if facts.train_seconds > limit:
                found.append("V11")
    if facts.eval_seconds is None and facts.finished and facts.train_limit is not None:
        unjudged.append("V11: no record says how long the evaluation took")
    if facts.eval_seconds is not None and facts.eval_seconds > eval_limit(facts):
        found.append("V11")
    if on_ranked_machine(facts) is False:
        machine = f"{facts.world_size} x {facts.device}"
        unjudged.append(f"time: limits are meant for {RANKED_DEVICES}, this ran on {machine}")


def train_limit(facts: Facts) -> float:
    """Seconds that training may take: the limit of the run, on the challenge's machine at most that of the challenge;
    infinity without a limit."""
    return _limit(facts, facts.train_limit, TRAIN_LIMIT_SECONDS)


def eval_limit(facts: Facts) -> float:
    """Seconds that the evaluation may take: the limit of the run, on the challenge's machine at most that of the
    challenge; infinity without a limit."""
    return _limit(facts, facts.eval_limit, EVALUATION_LIMIT_SECONDS)


def _limit(facts: Facts, own: float | None, of_the_challenge: float) -> float:
    own = own or math.inf
    return min(own, of_the_challenge) if on_ranked_machine(facts) else own


def on_ranked_machine(facts: Facts) -> bool | None:
    """Whether the run was on the machine that the limits are meant for; None where that is not known."""
    if facts.device is None or facts.world_size is None:
        return None
    count, name = RANKED_DEVICES.split("x")
    return facts.world_size == int(count) and name in facts.device
