"""Scoring again, by the artifact and nothing else of the run: a sample of the targets, or all of them.

What does not adapt is sampled anywhere, and so are documents that know nothing of each other. What adapts along the
stream is replayed from its beginning as far as the sample goes; later targets need the whole pass.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from golf_fast.config import ScoreConfig
from golf_fast.data import Validation
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.score import Ledger, score_tokens
from golf_fast.score.examiner import Examiner, Excerpt, Scored
from golf_fast.score.ledger import Event
from golf_fast.score.pace import Pace
from golf_fast.score.rows import TokenRows
from golf_fast.score.sliding import score_windows
from golf_fast.score.streaming import score_stream
from golf_fast.score.ttt import STRATEGIES, Work
from golf_fast.score.ttt.documents import Span, batches, frozen, score_apart, score_documents
from golf_fast.score.ttt.weights import restoring

TARGETS = 4096
"""Default number of targets of a sample."""
_ANYWHERE = ("off", "held_out", "documents")
"""Strategies whose losses can be replayed at any place without what comes before it."""
_PIECES = 16
"""Places of a sample that are spread over the split, at the least, where it is long enough."""


@dataclass(frozen=True)
class Tolerance:
    """How far a replayed loss may be from the recorded one, in nats.

    Attributes:
        each: tolerance for the loss of one target.
        mean: tolerance for the mean over the sample; far below `golf_fast.rules.RECORD_MARGIN_NATS`.
    """

    each: float
    mean: float


TOLERANCES = {
    "float64": Tolerance(1e-6, 1e-8),
    "float32": Tolerance(5e-3, 2e-5),
    "bfloat16": Tolerance(0.5, 2e-3),
}
"""Dtype that the model computes in -> tolerance: other batches, devices and kernels add in another order."""
TOLERANCES_ADAPTED = {
    "float64": Tolerance(1e-4, 1e-6),
    "float32": Tolerance(0.05, 2e-4),
    "bfloat16": Tolerance(1.0, 4e-3),
}
"""The tolerances with test-time training, where a rounding difference enters the weights and grows."""


@dataclass(frozen=True)
class Sample:
    """The targets that are to be replayed.

    Attributes:
        full: whether all targets are replayed.
        targets: approximate number of targets if not all are replayed.
        seed: seed of the choice of places. The default is drawn anew for each audit: a seed that is known beforehand
            would tell a forger which losses are not replayed.
    """

    full: bool = False
    targets: int = TARGETS
    seed: int = field(default_factory=lambda: secrets.randbelow(1 << 31))


@dataclass(frozen=True)
class Replay:
    """The result of a replay.

    Attributes:
        losses: `[targets]` float64, in nats; defined for the targets that were replayed.
        done: `[targets]` bool, whether a target was replayed.
        events: ledger that the replay wrote.
        whole: whether every target was replayed, in the order of the run.
        anywhere: whether the sample is drawn from the whole split; else it is the beginning of the split.
        adapted: whether test-time training had changed something before a replayed target was scored.
        seconds: wall time of the replay.
    """

    losses: npt.NDArray[np.float64]
    done: npt.NDArray[np.bool_]
    events: Sequence[Event]
    whole: bool
    anywhere: bool
    adapted: bool
    seconds: float

    @property
    def places(self) -> int:
        """The number of contiguous ranges of targets that were replayed."""
        return int(np.count_nonzero(np.diff(self.done, prepend=False) & self.done))

    @property
    def seconds_for_all(self) -> float:
        """Estimated seconds of a replay of all targets, at the speed of the sample."""
        return self.seconds * len(self.done) / max(int(self.done.sum()), 1)


def again(
    model: GPT,
    validation: Validation,
    config: ScoreConfig,
    sample: Sample,
    training: npt.NDArray[np.uint16] | None = None,
    cuts: Mapping[tuple[str, int], int] | None = None,
) -> Replay:
    """Score again as `config` says. Its limit of time is not applied: only what the run gave up for it is left out.

    Args:
        model: the artifact's, on the device to compute on.
        training: the training tokens that the strategy held_out learns from.
        cuts: what the run gave up for its limit of time (`golf_fast.score.ledger.cuts_of`).

    Raises:
        InputError: a loss is not finite, or held_out has no training tokens.
    """
    config, began = replace(config, max_seconds=0.0, allow_illegal=True), time.perf_counter()
    device = model.get_parameter("tok_emb").device
    if sample.full or sample.targets >= validation.targets:
        ledger = Ledger()
        score = score_tokens(model, validation, config, Ranks.single(device), ledger, training=training, cuts=cuts)
        done, losses = np.ones(validation.targets, np.bool_), score.losses.astype(np.float64)
        return Replay(losses, done, ledger.events, True, True, ledger.adapted, time.perf_counter() - began)
    sampler = _Sampler(model, TokenRows(validation.tokens, device), config, sample, Pace(cuts=cuts))
    work = Work(sampler, model, config, Ranks.single(device), training)
    with restoring(model):
        try:
            if config.ttt == "documents":
                with frozen(model):
                    score_documents(work, _some(work, sample, cuts), "documents")
            elif config.ttt == "off" and model.config.separate_documents:
                score_apart(work, _some(work, sample, cuts))
            else:
                STRATEGIES[config.ttt].run(work)
        except _Enough:
            pass
    losses = sampler.losses.double().cpu().numpy()
    seconds = time.perf_counter() - began
    return Replay(losses, sampler.done, sampler.recorded, False, config.ttt in _ANYWHERE, sampler.adapted, seconds)


class _Enough(Exception):
    """The sample is complete."""


class _Sampler(Examiner):
    """Scores a sample of the windows where nothing adapts meanwhile, else all that is asked for up to its end."""

    def __init__(self, model: GPT, rows: TokenRows, config: ScoreConfig, sample: Sample, pace: Pace) -> None:
        self._own = Ledger()
        super().__init__(model, rows, config, Ranks.single(rows.device), self._own, pace=pace)
        self._sample = sample
        self._anywhere = config.ttt in _ANYWHERE
        self.done = np.zeros(rows.targets, np.bool_)
        self.adapted = False

    @property
    def recorded(self) -> list[Event]:
        """The ledger of the replay so far."""
        return self._own.events

    def score_windows(self, first: int, stop: int) -> None:
        if self._anywhere:
            for begin, end in self._places(first, stop):
                score_windows(
                    self._model.token_losses,
                    None,
                    self._rows,
                    self.windows,
                    begin,
                    end,
                    self._config.batch_windows,
                    self._losses[:-1],
                    lambda done: None,
                )
                self._take(begin, end)
            raise _Enough
        enough = max(first + 1, self.windows.scoring_from(0, self._sample.targets)[1])
        super().score_windows(first, min(stop, enough))
        self._take(first, min(stop, enough))
        if stop >= enough:
            raise _Enough

    def score_stream(self) -> None:
        length = max(1, self._sample.targets // _PIECES)
        starts = range(0, self.targets, length)
        for k in _choose(len(starts), _PIECES, self._sample.seed):
            begin, end = starts[k], min(starts[k] + length, self.targets)
            score_stream(self._model, self._rows, begin, end, self._losses[:-1], lambda done: None)
            self.done[begin:end] = True
        raise _Enough

    def score_excerpts(self, excerpts: Sequence[Excerpt], *arguments: object, **more: object) -> Scored:
        scored = super().score_excerpts(excerpts, *arguments, **more)  # type: ignore[arg-type]
        for _, start, stop in excerpts:
            self.done[start:stop] = True
        self.adapted = self._own.adapted
        return scored

    def told(self, done: int) -> None:
        if not self._anywhere and np.count_nonzero(self.done) >= self._sample.targets:
            raise _Enough

    def _take(self, first: int, stop: int) -> None:
        self.done[self.windows.first_scored(first) : self.windows.end(stop - 1)] = True
        self.adapted = any(event["event"] in ("train", "adapt") for event in self._own.events)

    def _places(self, first: int, stop: int) -> list[tuple[int, int]]:
        """Ranges (begin, end) of consecutive windows: the first, the last, and others at random."""
        wanted = max(2, self._sample.targets // self._config.stride)
        length = max(1, min(self._config.batch_windows, wanted // _PIECES))
        starts = np.arange(first, stop, length)
        chosen = _choose(len(starts), -(-wanted // length), self._sample.seed)
        return [(int(starts[k]), min(int(starts[k]) + length, stop)) for k in chosen]


def _some(work: Work, sample: Sample, cuts: Mapping[tuple[str, int], int] | None) -> list[list[Span]]:
    """Groups of documents that hold about as many targets as the sample is to have.

    One group is as in the run, where it is small enough, so that what its adapters were can be compared to the last
    bit; the others are of documents from anywhere, since neighbours of one group are one place. A run that was cut
    short has what it gave up by group: its groups stay as they are.
    """
    groups = batches(work, work.examiner.documents)
    draw = np.random.default_rng(sample.seed)
    order = [groups[k] for k in draw.permutation(len(groups))]
    most = sample.targets if cuts else sample.targets // 2
    taken = _filled(order, most, over=bool(cuts))
    if cuts:
        return taken
    left = sample.targets - sum(map(_length, taken))
    others = [[span] for group in order if group not in taken for span in group]
    spans = [span for (span,) in _filled([others[k] for k in draw.permutation(len(others))], left, over=True)]
    size = work.config.documents.batch
    return taken + [spans[first : first + size] for first in range(0, len(spans), size)]


def _filled(groups: Sequence[list[Span]], targets: int, *, over: bool) -> list[list[Span]]:
    """The first groups that hold `targets` targets: at the least, or (`over` is false) one that has no more."""
    if not over:
        return next(([group] for group in groups if _length(group) <= targets), [])
    ends = np.cumsum([_length(group) for group in groups])
    return list(groups[: int(np.searchsorted(ends, targets)) + 1]) if targets > 0 else []


def _length(group: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in group)


def _choose(count: int, wanted: int, seed: int) -> list[int]:
    """Numbers below `count` in order: the first, the last, and random ones."""
    if wanted >= count:
        return list(range(count))
    inner = np.random.default_rng(seed).choice(np.arange(1, count - 1), max(wanted - 2, 0), replace=False)
    return sorted({0, count - 1, *map(int, inner)})
