"""The interface between an adaptation strategy and the validation tokens: a strategy requests scores, and requests
tokens that it may train on."""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from golf_fast import json_files
from golf_fast.config import ScoreConfig, compiles
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.model.adapters import Adapters
from golf_fast.model.compilation import compiled
from golf_fast.score import digest
from golf_fast.score.ledger import Hash, Ledger, LegalityError, Ranges
from golf_fast.score.pace import Pace
from golf_fast.score.rows import TokenRows, TrainingRows
from golf_fast.score.sliding import TokenLosses, score_windows
from golf_fast.score.streaming import score_stream
from golf_fast.score.windows import Windows

Given = TypeVar("Given")
_REHASHED = 16
"""Number of scores after which weights are hashed again, even if torch has counted no change of them."""
Progress = Callable[[int, int], None]
"""Called with the amount done and the total amount, in windows or in targets."""


class Excerpt(NamedTuple):
    """Targets `start` to `stop` (exclusive), predicted from a context that starts at token `begin`."""

    begin: int
    start: int
    stop: int


@dataclass(frozen=True)
class Scored:
    """Recorded losses, with the graph that is needed for their gradient.

    Attributes:
        ranges: the range of targets of each excerpt, in order.
    """

    ranges: Ranges
    _means: Tensor
    _note: Callable[[Ranges], None]

    def loss(self, first: int) -> Tensor:
        """The sum of the mean losses of the first `first` excerpts, to be trained on, which is recorded.

        Raises:
            LegalityError: an excerpt ends its document, so that training on it could not help any score.
        """
        self._note(self.ranges[:first])
        return self._means[:first].sum()


class Examiner:
    """Scores tokens on request, keeps their losses, records both in the ledger, and hands out tokens for training.

    A strategy runs on every rank. Methods that all ranks call together divide the work among them.

    Attributes:
        targets: number of tokens to be scored.
        windows: the sliding windows over them.
        pace: measures the time of the work, and predicts whether planned work fits the limit.
    """

    def __init__(
        self,
        model: GPT,
        rows: TokenRows,
        config: ScoreConfig,
        ranks: Ranks,
        ledger: Ledger,
        progress: Progress | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.targets = rows.targets
        self.windows = Windows(rows.targets, config.window, config.stride)
        self.pace = pace or Pace()
        self._model = model
        self._config = config
        self._rows = rows
        self._ranks = ranks
        self._ledger = ledger
        self._progress = progress
        self._compiled: TokenLosses | None = None
        if compiles(config.compile, rows.device.type):
            # One graph for the whole pass. A graph break or an extra recompilation is an error, since an uncompiled
            # pass over the challenge's tokens may exceed its time.
            self._compiled = compiled(model.token_losses, fullgraph=True)
        dtype = torch.float64 if getattr(model, "compute_dtype", None) == torch.float64 else torch.float32
        # The losses of other ranks' targets are 0; the extra last element receives those of padding.
        self._losses = torch.zeros(rows.targets + 1, dtype=dtype, device=rows.device)
        self._weights = _Weights(model, ledger)
        ledger.begin(rows, config.ttt, self.pace.limit)

    @property
    def documents(self) -> list[tuple[int, int]]:
        """The range of targets `(first, stop)` of each document, `stop` exclusive; together they are all targets."""
        bounds = self._ledger.documents.tolist()
        return list(itertools.pairwise(bounds))

    @property
    def complete(self) -> bool:
        """Whether every target is scored."""
        return self._ledger.complete

    @property
    def losses(self) -> Tensor:
        """A copy of the losses `[targets]`, which are 0 for targets that this rank did not score."""
        return self._losses[:-1].clone()

    def score_windows(self, first: int, stop: int) -> None:
        """Score windows `first` to `stop` (exclusive) with the current weights; called by all ranks together.

        Raises:
            LegalityError: a target was scored before, or the weights changed without a record of what they learned.
        """
        if first == stop:
            return
        start, end = self.windows.first_scored(first), self.windows.end(stop - 1)
        self._ledger.require_next(start, end)
        hashed = self._weights.hashed()
        own_first, own_stop = self._ranks.share(first, stop)

        def report(done: int) -> None:
            if self._progress is not None:
                # The other ranks are assumed to have done as much as this one.
                self._progress(first + (stop - first) * done // (own_stop - own_first), self.windows.count)

        c, losses = self._config, self._losses[:-1]
        with self.pace.measured("window", stop - first):
            score_windows(
                self._model.token_losses,
                self._compiled,
                self._rows,
                self.windows,
                own_first,
                own_stop,
                c.batch_windows,
                losses,
                report,
            )
        self._weights.require_same()
        self._agree((own_first, own_stop), (first, stop))
        self._ledger.scored(start, end, "stream", hashed)

    def measure_windows(self, rows: TrainingRows) -> None:
        """Measure the time of `score_windows` per window on rows that are not scored; called by all ranks together.

        It is measured twice, since the first time includes compilation.
        """
        c, batch = self._config, self._config.batch_windows
        tokens, targets, _ = rows.batch(0, min(batch, rows.count))
        index = torch.arange(batch, device=tokens.device) % tokens.shape[0]
        scorer = self._compiled or self._model.token_losses
        for _ in range(2):
            # Each rank does a batch, as if together they had scored one for each of them.
            with torch.inference_mode(), self.pace.measured("window", batch * self._ranks.world_size):
                scorer(tokens[index], targets[index], None, first=c.window - c.stride)

    def score_stream(self) -> None:
        """Score all targets in one pass over the stream with the current weights; called by all ranks together.

        Raises:
            InputError: a block of the model has no attention window.
            LegalityError: as in `score_windows`.
        """
        self._ledger.require_next(0, self.targets)
        hashed = self._weights.hashed()
        own_first, own_stop = self._ranks.share(0, self.targets)

        def report(done: int) -> None:
            self.told(self.targets * done // (own_stop - own_first))

        score_stream(self._model, self._rows, own_first, own_stop, self._losses[:-1], report)
        self._weights.require_same()
        self._agree((own_first, own_stop), (0, self.targets), "targets")
        self._ledger.scored(0, self.targets, "stream", hashed)

    def score_excerpts(
        self, excerpts: Sequence[Excerpt], adapters: Adapters | None, phase: str, *, batch: int = 0, train: bool = False
    ) -> Scored:
        """Score one excerpt of each of several documents on this rank only; `settle` later informs the other ranks.

        Args:
            excerpts: the excerpts, with equally many context tokens before the first target.
            adapters: the adapters of each excerpt; None: the model without adapters.
            batch: number of this batch of documents among those scored since the last `settle`.
            train: whether gradients with respect to the adapters are needed.

        Raises:
            LegalityError: as in `score_windows`, within each document.
        """
        hashed = self._weights.hashed()
        for each in excerpts:
            self._ledger.require_own_context(*each)
        ranges = [(each.start, each.stop) for each in excerpts]
        device = self._rows.device
        begins, starts, stops = torch.tensor(excerpts, device=device).unbind(1)
        before = excerpts[0].start - excerpts[0].begin
        assert all(each.start - each.begin == before for each in excerpts), "excerpts are alike up to what is scored"
        length = max(each.stop - each.begin for each in excerpts)
        places = torch.arange(length, device=device)
        beyond = begins[:, None] + places >= stops[:, None]
        tokens, targets, _ = self._rows.gather(begins, length)
        tokens, targets = tokens.masked_fill(beyond, 0), targets.masked_fill(beyond, 0)
        with torch.enable_grad() if train else torch.no_grad():
            losses = self._model.token_losses(tokens, targets, None, before, adapters)
            losses = losses.masked_fill(beyond[:, before:], 0)
            means = losses.sum(1) / (stops - starts)
        self._weights.require_same()
        named: Hash = ""
        if adapters is not None:
            named = digest.later(part for pair in adapters.pairs.values() for part in pair)
        if self._ranks.world_size > 1:
            self._ledger.hold()
        self._ledger.scored_in_documents(ranges, phase, batch, hashed, named)
        # Computed after the record was accepted, so that a refused request leaves no loss.
        index = (starts[:, None] + places[: length - before]).masked_fill(beyond[:, before:], self.targets)
        self._losses[index] = losses.detach().to(self._losses.dtype)

        def note(trained: Ranges) -> None:
            self._ledger.trained_in_documents(trained, phase, batch)

        return Scored(ranges, means, note)

    def settle(self) -> None:
        """Exchange with all ranks what each has scored and given up since the last call; called by all ranks together.

        Raises:
            LegalityError: two ranks scored the same token.
        """
        if self._ranks.world_size == 1:
            self._ledger.flush()
            return
        own = json.dumps([self._ledger.held, self.pace.news()]).encode()
        said = [json_files.parse(text, "what a rank held") for text in self._ranks.gather_bytes(own)]
        others = [(rank, each) for rank, each in enumerate(said) if rank != self._ranks.rank]
        self._ledger.release(event for _, (events, _) in others for event in events)
        for rank, (_, news) in others:
            for what in news:
                self.pace.say(f"rank {rank}: {what}")
        self.pace.news()  # discard: the other ranks were just told

    def gave_up(self, what: str, place: int, done: int, planned: int, batch: int | None = None) -> None:
        """Record what was given up for the time limit, as `Ledger.cut`."""
        if batch is not None and self._ranks.world_size > 1:
            self._ledger.hold()
        self._ledger.cut(what, place, done, planned, batch)

    def told(self, done: int) -> None:
        """Tell the program that `done` targets are scored."""
        if self._progress is not None:
            self._progress(done, self.targets)

    def rows_for_training(self, start: int, count: int, window: int) -> TrainingRows:
        """Rows of scored tokens, as `Ledger.rows_for_training`; called by all ranks together, after `settle`."""
        self._agree_to_train([(start, start + count * window)])
        return self._weights.may_learn(self._ledger.rows_for_training(start, count, window))

    def rows_of(self, ranges: Ranges, window: int, phase: str) -> TrainingRows:
        """Rows of several ranges of scored tokens, as `Ledger.rows_of`; called by all ranks together."""
        self._agree_to_train(ranges)
        return self._weights.may_learn(self._ledger.rows_of(ranges, window, phase))

    def unscored_rows(self, start: int, count: int, window: int) -> TrainingRows:
        """Rows of tokens whether or not they are scored, which the rules forbid; this is recorded as a violation."""
        return self._weights.may_learn(self._ledger.unscored_rows(start, count, window))

    def trains_elsewhere(self, tokens: int, hashed: str) -> None:
        """Record that the weights are trained on tokens that are not to be scored."""
        self._ledger.trained_elsewhere(tokens, hashed)
        self._weights.may_learn(tokens)

    def finish(self) -> None:
        """Check, after the last score, that the weights are still those that scored."""
        self._weights.require_hash()

    def _agree(self, own: tuple[int, int], whole: tuple[int, int], what: str = "windows") -> None:
        """Check that the ranks together scored the whole range of windows (or targets), each once."""
        if self._ranks.world_size == 1:
            return
        spans = [
            tuple(json_files.parse(text, "a rank's range"))
            for text in self._ranks.gather_bytes(json.dumps(own).encode())
        ]
        joined = [whole[0], *(stop for _, stop in spans)]
        if [first for first, _ in spans] != joined[:-1] or joined[-1] != whole[1]:
            raise LegalityError(f"{what} {whole[0]} to {whole[1]} were to be scored, and the ranks scored {spans}")

    def _agree_to_train(self, ranges: Ranges) -> None:
        if self._ranks.world_size > 1:
            asked = set(self._ranks.gather_bytes(json.dumps(list(ranges)).encode()))
            if len(asked) > 1:
                raise LegalityError(f"the ranks ask to train on different tokens: {sorted(asked)}")


class _Weights:
    """Watches a model: every change of its weights must be recorded, and its functions and hooks must stay the same.

    A change that torch counts is detected at once. One that it does not count (through `.data`) is detected when the
    weights are hashed again, which happens every few scores and at the end.
    """

    def __init__(self, model: torch.nn.Module, ledger: Ledger) -> None:
        self._model = model
        self._ledger = ledger
        self._functions = _functions(model)
        self._tensors: list[Tensor] = []
        self._versions: list[int] = []
        self._hash: Hash = ""
        self._scores = 0  # number of scores since the weights were last hashed
        self._may_change = True

    def may_learn(self, given: Given) -> Given:
        """Allow the next change of the weights, since what they learn is recorded; returns its argument."""
        self._may_change = True
        return given

    def hashed(self) -> Hash:
        """The hash of the current weights.

        Raises:
            LegalityError: they changed without a record of what they learned.
        """
        if not self._may_change:
            self.require_same()
        if self._may_change or self._scores >= _REHASHED:
            self._tensors = [*self._model.parameters(), *self._model.buffers()]
            self._versions = [tensor._version for tensor in self._tensors]
            self._hash, self._scores = digest.later(self._tensors), 0
        self._scores += 1
        self._may_change = False
        return self._hash

    def require_same(self) -> None:
        """Check that nothing has changed since the weights were last hashed.

        Raises:
            LegalityError: the weights, the functions or the hooks of the model have changed.
        """
        now = [*self._model.parameters(), *self._model.buffers()]
        same = len(now) == len(self._tensors) and all(map(operator.is_, now, self._tensors))
        if not same or [tensor._version for tensor in now] != self._versions:
            raise LegalityError("the weights changed, and the ledger handed out nothing that they could learn from")
        if _functions(self._model) != self._functions:
            raise LegalityError("the model has other functions or hooks than it came with")

    def require_hash(self) -> None:
        """Check by their hash that the weights are those that scored last.

        Raises:
            LegalityError: as `require_same`.
        """
        self.require_same()
        scored = self._hash.text if isinstance(self._hash, digest.Later) else self._hash
        if digest.of_tensors(self._tensors) != scored:
            raise LegalityError("the weights changed, and the ledger handed out nothing that they could learn from")


def _functions(model: torch.nn.Module) -> list[object]:
    """The hooks and the overridden methods of each of the model's modules."""
    named = [(module, name, value) for module in model.modules() for name, value in vars(module).items()]
    hooks = [hook for _, name, value in named if name.endswith("_hooks") for hook in value.values()]
    own = [value for module, name, value in named if callable(value) and callable(getattr(type(module), name, None))]
    return own + hooks
