"""What an adapting strategy is handed: it asks to have tokens scored, and asks for those that it may train on."""

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
from golf_fast.score import digest
from golf_fast.score.ledger import Hash, Ledger, LegalityError, Ranges
from golf_fast.score.pace import Pace
from golf_fast.score.rows import TokenRows, TrainingRows
from golf_fast.score.sliding import TokenLosses, score_windows
from golf_fast.score.streaming import score_stream
from golf_fast.score.windows import Windows

Given = TypeVar("Given")
_REHASHED = 16
"""Scores after which weights are hashed again that torch did not see change."""
Progress = Callable[[int, int], None]
"""Called with what is done of all there is: windows, or the targets of documents."""


class Excerpt(NamedTuple):
    """Targets `start` to `stop` (exclusive), predicted from the tokens from `begin` on."""

    begin: int
    start: int
    stop: int


@dataclass(frozen=True)
class Scored:
    """Losses that are on record, with what is needed to take their gradient.

    Attributes:
        ranges: of the excerpts, in their order.
    """

    ranges: Ranges
    _means: Tensor
    _note: Callable[[Ranges], None]

    def loss(self, first: int) -> Tensor:
        """The sum of the mean losses of the first excerpts, to train on: that is put on record.

        Raises:
            LegalityError: an excerpt ends its document, so that nothing is left which could be learned for.
        """
        self._note(self.ranges[:first])
        return self._means[:first].sum()


class Examiner:
    """Scores on request, keeps the losses and the record, and gives out tokens that may be trained on.

    A strategy runs on every rank. Methods said to be called by all ranks together share their work.

    Attributes:
        targets: how many tokens are to be scored.
        windows: the sliding windows over them.
        pace: what the work costs, and what still fits.
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
            # One graph for the whole pass. A graph break or one recompilation too many is an error: uncompiled, a pass
            # of the challenge may not end in time.
            self._compiled = torch.compile(model.token_losses, dynamic=False, fullgraph=True)
        dtype = torch.float64 if getattr(model, "compute_dtype", None) == torch.float64 else torch.float32
        # Of the targets that this rank scored, the others' are 0; the last is where padding goes.
        self._losses = torch.zeros(rows.targets + 1, dtype=dtype, device=rows.device)
        self._weights = _Weights(model, ledger)
        ledger.begin(rows, config.ttt, self.pace.limit)

    @property
    def documents(self) -> list[tuple[int, int]]:
        """The targets `(first, after last)` of each document; together they are all targets."""
        bounds = self._ledger.documents.tolist()
        return list(itertools.pairwise(bounds))

    @property
    def complete(self) -> bool:
        """Whether every target is scored."""
        return self._ledger.complete

    @property
    def losses(self) -> Tensor:
        """The losses of this rank's targets, the others' being 0: a copy `[targets]`."""
        return self._losses[:-1].clone()

    def score_windows(self, first: int, stop: int) -> None:
        """Score windows `first` to `stop` (exclusive) with the model as it is; called by all ranks together.

        Raises:
            LegalityError: a target was scored before, or the weights changed and no record says what they learned.
        """
        if first == stop:
            return
        start, end = self.windows.first_scored(first), self.windows.end(stop - 1)
        self._ledger.require_next(start, end)
        hashed = self._weights.hashed()
        own_first, own_stop = self._ranks.share(first, stop)

        def report(done: int) -> None:
            if self._progress is not None:
                # The other ranks are taken to be as far as this one.
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
        """Measure, on rows that are not scored, what `score_windows` costs a window; called by all ranks together.

        Twice, for the first time holds the compiling.
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
        """Score all targets in one pass over the stream with the model as it is; called by all ranks together.

        Raises:
            InputError: a block of the model sees all positions before.
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
        """Score an excerpt of each of several documents, by this rank's own decision; what `settle` makes all know.

        Args:
            excerpts: all have one number of tokens before the first that is scored.
            adapters: of each excerpt; None: the model as it is.
            batch: number of these documents' batch among all that are scored since the ranks agreed.
            train: whether the gradient with respect to the adapters is wanted.

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
        # After the record, so that what is refused leaves no loss behind.
        index = (starts[:, None] + places[: length - before]).masked_fill(beyond[:, before:], self.targets)
        self._losses[index] = losses.detach().to(self._losses.dtype)

        def note(trained: Ranges) -> None:
            self._ledger.trained_in_documents(trained, phase, batch)

        return Scored(ranges, means, note)

    def settle(self) -> None:
        """Tell every rank what the others scored and gave up since the last time; called by all ranks together.

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
        self.pace.news()  # the others know what they said

    def gave_up(self, what: str, place: int, done: int, planned: int, batch: int | None = None) -> None:
        """Put on record what was given up for the limit of time, as `Ledger.cut`."""
        if batch is not None and self._ranks.world_size > 1:
            self._ledger.hold()
        self._ledger.cut(what, place, done, planned, batch)

    def told(self, done: int) -> None:
        """Tell the program that `done` targets are scored."""
        if self._progress is not None:
            self._progress(done, self.targets)

    def rows_for_training(self, start: int, count: int, window: int) -> TrainingRows:
        """Rows of scored tokens, as `Ledger.rows_for_training`; called by all ranks together, after they agreed."""
        self._agree_to_train([(start, start + count * window)])
        return self._weights.may_learn(self._ledger.rows_for_training(start, count, window))

    def rows_of(self, ranges: Ranges, window: int, phase: str) -> TrainingRows:
        """Rows of several ranges of scored tokens, as `Ledger.rows_of`; called by all ranks together."""
        self._agree_to_train(ranges)
        return self._weights.may_learn(self._ledger.rows_of(ranges, window, phase))

    def unscored_rows(self, start: int, count: int, window: int) -> TrainingRows:
        """Rows of any tokens: what the rules forbid, and the record says so."""
        return self._weights.may_learn(self._ledger.unscored_rows(start, count, window))

    def trains_elsewhere(self, tokens: int, hashed: str) -> None:
        """Put on record that the weights learn from tokens that are not to be scored."""
        self._ledger.trained_elsewhere(tokens, hashed)
        self._weights.may_learn(tokens)

    def finish(self) -> None:
        """See, after the last score, that the weights are those that scored."""
        self._weights.require_hash()

    def _agree(self, own: tuple[int, int], whole: tuple[int, int], what: str = "windows") -> None:
        """See that the windows, or targets, that the ranks scored are the whole range, each once."""
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
    """Watches a model: its weights' hash, that each change of them is on record, and that its functions stay its own.

    A change that torch counts shows at once. One that it does not (through `.data`) shows when the weights are hashed
    again, after some scores and at the end.
    """

    def __init__(self, model: torch.nn.Module, ledger: Ledger) -> None:
        self._model = model
        self._ledger = ledger
        self._functions = _functions(model)
        self._tensors: list[Tensor] = []
        self._versions: list[int] = []
        self._hash: Hash = ""
        self._scores = 0  # since the weights were hashed
        self._may_change = True

    def may_learn(self, given: Given) -> Given:
        """What the weights learn next is on record: it is passed on."""
        self._may_change = True
        return given

    def hashed(self) -> Hash:
        """The hash of the weights as they are.

        Raises:
            LegalityError: they changed, and no record says what they learned.
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
        """That nothing changed since the weights were last hashed.

        Raises:
            LegalityError: the weights did, or the model has other functions or hooks than it came with.
        """
        now = [*self._model.parameters(), *self._model.buffers()]
        same = len(now) == len(self._tensors) and all(map(operator.is_, now, self._tensors))
        if not same or [tensor._version for tensor in now] != self._versions:
            raise LegalityError("the weights changed, and the ledger handed out nothing that they could learn from")
        if _functions(self._model) != self._functions:
            raise LegalityError("the model has other functions or hooks than it came with")

    def require_hash(self) -> None:
        """That the weights are those that scored last, by their values.

        Raises:
            LegalityError: as `require_same`.
        """
        self.require_same()
        scored = self._hash.text if isinstance(self._hash, digest.Later) else self._hash
        if digest.of_tensors(self._tensors) != scored:
            raise LegalityError("the weights changed, and the ledger handed out nothing that they could learn from")


def _functions(model: torch.nn.Module) -> list[object]:
    """What stands in for a method, and the hooks, of each of the model's modules."""
    named = [(module, name, value) for module in model.modules() for name, value in vars(module).items()]
    hooks = [hook for _, name, value in named if name.endswith("_hooks") for hook in value.values()]
    own = [value for module, name, value in named if callable(value) and callable(getattr(type(module), name, None))]
    return own + hooks
