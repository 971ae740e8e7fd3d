"""What a script did with validation tokens, in the order in which it would: trained on them, or added up their loss."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from golf_fast.audit.script.values import Ids, Parts, Stamp, Value, overlap

Arm = tuple[str, str]
"""A condition and how it came out."""
TrainingKind = Literal["update", "calibration", "weights", "parameter", "counts"]


@dataclass(frozen=True)
class Where:
    """A place in the run of the script."""

    line: int
    function: str
    loops: tuple[Stamp, ...]
    """The turns of the loops around it, from the outside in."""
    arms: tuple[Arm, ...]
    """The branches around it."""
    gates: tuple[str, ...]
    """Environment names without which it does not run."""

    def behind(self, value: Value) -> Where:
        """This place with the environment names added that turn on a value which is off by default."""
        names = sorted(mark[4:] for mark in value.marks if mark.startswith("off:"))
        return replace(self, gates=tuple(dict.fromkeys((*self.gates, *names)))) if names else self

    def excludes(self, other: Where) -> bool:
        """Whether the two are in branches of which a run takes one."""
        mine = dict(self.arms)
        return any(condition in mine and mine[condition] != outcome for condition, outcome in other.arms)


@dataclass(frozen=True)
class Training:
    """Validation tokens changed weights."""

    id: int
    where: Where
    kind: TrainingKind
    parts: Parts
    models: Ids
    losses: Ids
    scored_before: int
    """How many losses were recorded before it."""


@dataclass(frozen=True)
class Forward:
    """A model's output for validation tokens, and what its weights had been trained on by then."""

    where: Where
    parts: Parts
    models: Ids
    trained: Ids


@dataclass(frozen=True)
class Scored:
    """A loss of validation tokens went into a sum, or into bits per byte at once (`cell` is then None)."""

    where: Where
    parts: Parts
    models: Ids
    trained: Ids
    cell: int | None
    losses: Ids


@dataclass
class Trace:
    """The events of one walk through a script."""

    trainings: dict[int, Training] = field(default_factory=dict)
    forwards: dict[int, Forward] = field(default_factory=dict)
    scored: list[Scored] = field(default_factory=list)
    printed: list[Scored] = field(default_factory=list)
    """Losses that were only printed: they are scores if there are no others."""
    weights: dict[int, Ids] = field(default_factory=dict)
    """Model -> trainings that went into its weights so far."""
    pending: list[tuple[Where, Value]] = field(default_factory=list)
    """Gradients of validation tokens that no update has used so far."""
    parameters: set[int] = field(default_factory=set)
    """Models that are a single tensor with gradients."""
    backward_losses: set[int] = field(default_factory=set)
    reported: set[int] = field(default_factory=set)
    """Sums and outputs that became bits per byte."""
    truncations: list[tuple[Where, str]] = field(default_factory=list)
    loads: list[tuple[Where, str]] = field(default_factory=list)
    """Where validation tokens were read, and from what."""
    train_reads: list[Where] = field(default_factory=list)
    train_after_load: list[Where] = field(default_factory=list)
    """Training tokens read after weights were read back from a file."""
    weights_read: bool = False
    hashed: list[tuple[Where, str]] = field(default_factory=list)
    """Tables of counts that were looked up with a key made of the target."""
    dynamic: list[Where] = field(default_factory=list)
    """Code made at run time."""
    _known: set[tuple[object, ...]] = field(default_factory=set)

    def trained_into(self, models: Ids) -> Ids:
        """Trainings on validation tokens that the present weights of models hold; of any model if none is named."""
        names = models or self.weights.keys()
        return frozenset().union(*(self.weights.get(model, frozenset()) for model in {*names, 0}))

    def train(self, where: Where, kind: TrainingKind, value: Value, models: Ids) -> None:
        """Record that validation tokens of `value` changed `models`."""
        where = where.behind(value)
        if models and models <= self.parameters:
            kind = "parameter"
        number = len(self.trainings) + 1
        self.trainings[number] = Training(number, where, kind, value.parts, models, value.losses, len(self.scored))
        for model in models or {0}:
            self.weights[model] = self.weights.get(model, frozenset()) | {number}

    def count(self, where: Where, value: Value) -> int:
        """Record that validation tokens of `value` went into a table of counts; the number of that training."""
        number = len(self.trainings) + 1
        where = where.behind(value)
        self.trainings[number] = Training(
            number, where, "counts", value.parts, frozenset(), frozenset(), len(self.scored)
        )
        return number

    def score(self, where: Where, value: Value, trained: Ids, cell: int | None) -> None:
        """Record that the loss of validation tokens counts from here on."""
        where = where.behind(value)
        key = (where, value.parts, trained, cell)
        if key not in self._known:
            self._known.add(key)
            self.scored.append(Scored(where, value.parts, value.models, trained, cell, value.losses))

    def counted(self) -> list[Scored]:
        """What of the recorded losses is a score.

        Sums that became bits per byte are, and sums whose losses no backward pass used; the others are what training
        prints, unless there is nothing else.
        """
        strong = [scored for scored in self.scored if self._reported(scored)]
        pure = [scored for scored in self.scored if not scored.losses & self.backward_losses]
        chosen = {id(scored): scored for scored in (*strong, *pure)}
        if not any(self._after_training(scored) for scored in chosen.values()):
            for scored in (*self.scored, *self.printed):
                if not strong:
                    chosen[id(scored)] = scored
        return list(chosen.values())

    def is_score(self, scored: Scored) -> bool:
        """Whether a sum became bits per byte, or none did: then any may be the score. Others are statistics."""
        return self._reported(scored) or not any(self._reported(each) for each in self.scored)

    def conflicts(self) -> list[tuple[Training, Scored]]:
        """Pairs of a training and a later score that share tokens and weights."""
        found = []
        for scored in self.counted():
            for number in sorted(scored.trained):
                training = self.trainings[number]
                shared = overlap(training.parts, scored.parts) and self._by_its_weights(training, scored)
                if shared and not _exclusive(training.where, scored.where):
                    found.append((training, scored))
        return found

    def _by_its_weights(self, training: Training, scored: Scored) -> bool:
        """Whether a loss in the sum is of the training's tokens and by weights that hold it.

        What was stored and is summed later may have tokens from before it, and others by the weights after it. Of a
        parameter or a table that went into none of the outputs, but into the loss, they say nothing.
        """
        forwards = [self.forwards[number] for number in scored.losses if number in self.forwards]
        if training.kind == "counts":
            now = [forward for forward in forwards if _same_turns(forward.where, scored.where)]
            return not now or any(overlap(training.parts, forward.parts) for forward in now)
        about = [forward for forward in forwards if not training.models or forward.models & training.models]
        holding = [forward for forward in about if training.id in forward.trained]
        return not about or any(overlap(training.parts, forward.parts) for forward in holding)

    def unused(self) -> list[tuple[Training, Scored]]:
        """Trainings on tokens that no score of the same weights came before, each with a score of those tokens.

        A warm-up of a compiler on validation tokens is one.
        """
        counted = self.counted()
        places = {id(scored): place for place, scored in enumerate(self.scored)}
        found = []
        for training in self.trainings.values():
            used = any(
                training.id in scored.trained
                or (training.models & scored.models and overlap(training.parts, scored.parts))
                for scored in counted
                if training.id in scored.trained or places.get(id(scored), 0) < training.scored_before
            )
            later = [scored for scored in counted if places.get(id(scored), 0) >= training.scored_before]
            later.sort(key=lambda s: (not overlap(training.parts, s.parts), len(s.where.gates)))
            if training.models and not used and later:
                found.append((training, later[0]))
        return found

    def _reported(self, scored: Scored) -> bool:
        if scored.cell is None:
            return True
        return scored.cell in self.reported

    def _after_training(self, scored: Scored) -> bool:
        return bool(scored.trained)


def _same_turns(first: Where, second: Where) -> bool:
    """Whether the loops that are around both are in the same turns."""
    turns = dict(first.loops), dict(second.loops)
    return all(turns[0][loop] == turns[1][loop] for loop in turns[0].keys() & turns[1].keys())


def _exclusive(first: Where, second: Where) -> bool:
    """Whether no run does both. Branches inside of different turns of a loop exclude nothing."""
    return _same_turns(first, second) and first.excludes(second)
