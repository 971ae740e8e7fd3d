"""Low-rank adapters for each document: it is scored chunk by chunk with a step of AdamW after each chunk. Track B.

The protocol is that of the published records with per-document LoRA, started cold: adapters start anew in every
document, so the score depends neither on the order of the documents nor on how they are batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.model.adapters import Adapters, Fresh, LowRank, widths
from golf_fast.score.examiner import Excerpt
from golf_fast.score.ttt.work import Work
from golf_fast.score_config import DocumentsConfig

_STRETCH = 12
"""Groups per rank between two synchronizations of the ranks, enough to balance the load."""
_FILLS = 16384
"""Number of tokens that keep a GPU busy; fewer take no less time."""
Span = tuple[int, int]
"""The range of targets of a document, the second number exclusive."""


def run(work: Work) -> None:
    """Score all documents, each with adapters of its own."""
    with frozen(work.model):
        score_documents(work, batches(work, work.examiner.documents), "documents")


def batches(work: Work, documents: Sequence[Span]) -> list[list[Span]]:
    """The documents in the configured order, in groups that are scored side by side."""
    c = work.config.documents
    ordered = sorted(documents, key=lambda span: span[0] - span[1]) if c.order == "length" else list(documents)
    # Groups are small enough that every rank has work.
    size = max(1, min(c.batch, -(-len(ordered) // work.ranks.world_size)))
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def score_documents(work: Work, groups: list[list[Span]], phase: str) -> None:
    """Score groups of documents, which are shared out over the ranks; called by all ranks together.

    The ranks exchange their records after each stretch of groups, so that little is left to exchange at the end.
    """
    c, examiner = work.config.documents, work.examiner
    config, plan = work.model.config, work.model.plan
    names = [name for name in ("q", "k", "v", "o", "mlp", "head") if getattr(c, name)]
    dtype = torch.float64 if work.model.compute_dtype == torch.float64 else torch.float32
    fresh = Fresh.drawn(widths(config, plan, names), c.rank, c.alpha / c.rank, work.ranks.device, dtype)
    stretches = [own[work.ranks.rank] for own in shared_out([_cost(group, c) for group in groups], work.ranks)]
    plain = {k: sum(_tokens_read(span, c.context, c.context) for span in groups[k]) for own in stretches for k in own}
    plain_left = float(sum(plain.values()))
    for own in stretches:
        for k in own:
            group = sorted(groups[k], key=lambda span: (span[0] - span[1], span[0]))
            plain_left -= plain[k]
            _Group(work, fresh, group, phase, k, plain_left).score()
            examiner.told(max(stop for _, stop in group))
        examiner.settle()


def shared_out(costs: Sequence[int], ranks: Ranks) -> list[list[list[int]]]:
    """The groups of each rank, in order, for each stretch of consecutive groups.

    The most expensive groups are assigned first, each to the rank with the least work, so that the ranks finish a
    stretch at about the same time.
    """
    size = _STRETCH * ranks.world_size
    found = []
    for first in range(0, len(costs), size):
        shares: list[list[int]] = [[] for _ in range(ranks.world_size)]
        sums = [0] * ranks.world_size
        for k in sorted(range(first, min(first + size, len(costs))), key=lambda k: -costs[k]):
            least = sums.index(min(sums))
            shares[least].append(k)
            sums[least] += costs[k]
        found.append([sorted(share) for share in shares])
    return found


def _cost(group: Sequence[Span], c: DocumentsConfig) -> int:
    """Approximate cost of adapting to a group: the tokens of its chunks, each step counting at least `_FILLS`."""
    lengths = np.sort([stop - start for start, stop in group])
    done = np.arange(0, lengths[-1], c.chunk_tokens)
    active = len(lengths) - np.searchsorted(lengths, done, side="right")
    return int(np.maximum(active * np.minimum(done + c.chunk_tokens, c.context), _FILLS).sum())


def score_apart(work: Work, groups: list[list[Span]]) -> None:
    """Score groups of documents without adapters, each document by itself; called by all ranks together."""
    context = work.config.documents.context
    costs = [sum(_tokens_read(span, context, context) for span in group) for group in groups]
    for stretch in shared_out(costs, work.ranks):
        for k in stretch[work.ranks.rank]:
            _score_plainly(work, groups[k], 0, "documents", k)
            work.examiner.told(max(stop for _, stop in groups[k]))
        work.examiner.settle()


class _Group:
    """Documents that are scored side by side, the longest first, so that the unfinished ones are always the first
    rows."""

    def __init__(
        self, work: Work, fresh: Fresh, documents: list[Span], phase: str, place: int, plain_left: float
    ) -> None:
        """Prepare to score a group.

        Args:
            fresh: initial values of the adapters.
            plain_left: tokens that this rank will read for later groups if those do not adapt.
        """
        self._work = work
        self._config: DocumentsConfig = work.config.documents
        self._fresh = fresh
        self._documents = documents
        self._phase = phase
        self._place = place
        self._plain_left = plain_left

    def score(self) -> None:
        """Score chunk by chunk; if time runs out, score the rest without further steps."""
        c, examiner, pace = self._config, self._work.examiner, self._work.examiner.pace
        first, stop = self._documents[0]
        chunks, given = -(-(stop - first) // c.chunk_tokens), pace.given("documents", first)
        optimizer = _Steps(self._fresh.rows(len(self._documents)), c)
        for chunk in range(chunks):
            active = self._longer_than(chunk * c.chunk_tokens)
            going_on = self._longer_than((chunk + 1) * c.chunk_tokens)
            if chunk == given or not self._in_time(active, chunk):
                examiner.gave_up("documents", first, chunk, chunks, self._place)
                pace.say(
                    f"from target {active[0][0] + chunk * c.chunk_tokens} on documents are scored without adapting, "
                    f"within score.max_seconds {pace.limit:g}"
                )
                _score_plainly(self._work, active, chunk * c.chunk_tokens, self._phase, self._place)
                return
            optimizer.keep(len(active))
            excerpts = [excerpt(span, chunk * c.chunk_tokens, c.chunk_tokens, c.context) for span in active]
            tokens = len(active) * (excerpts[0].stop - excerpts[0].begin)
            train = bool(going_on)
            with pace.measured("forward", tokens):
                scored = examiner.score_excerpts(
                    excerpts, optimizer.adapters, self._phase, batch=self._place, train=train
                )
            if train:
                with pace.measured("step", tokens):
                    optimizer.step(lambda: scored.loss(len(going_on)))  # noqa: B023

    def _longer_than(self, tokens: int) -> list[Span]:
        return [span for span in self._documents if span[1] - span[0] > tokens]

    def _in_time(self, active: list[Span], chunk: int) -> bool:
        """Whether a step on this chunk leaves time to score the rest without adapting."""
        c, pace = self._config, self._work.examiner.pace
        done = chunk * c.chunk_tokens
        step = len(active) * min(done + c.chunk_tokens, c.context)
        rest = sum(_tokens_read((start + done, stop), c.context, c.context) for start, stop in active)
        if not pace.known("forward"):  # only an upper bound: no reason yet to give up what follows
            return pace.fits(forward=step, step=step)
        return pace.fits(forward=step + 1.2 * (rest + self._plain_left), step=step)


def _score_plainly(work: Work, documents: Sequence[Span], done: int, phase: str, place: int) -> None:
    """Score the rest of documents without adapting, half a context at a time.

    Args:
        done: number of targets of each document that are scored already.
        place: number of their group.
    """
    context, examiner = work.config.documents.context, work.examiner
    stride = max(1, context // 2)
    while documents:
        excerpts = [excerpt(span, done, stride, context) for span in documents]
        with examiner.pace.measured("forward", len(excerpts) * (excerpts[0].stop - excerpts[0].begin)):
            examiner.score_excerpts(excerpts, None, phase, batch=place)
        done += stride
        documents = [span for span in documents if span[1] - span[0] > done]


def excerpt(document: Span, done: int, count: int, context: int) -> Excerpt:
    """The next `count` targets of a document of which `done` are scored, with as much context as is allowed.

    If fewer targets are left, the context has the length for a whole chunk, so that all documents of a batch are cut
    alike.
    """
    start, stop = document
    return Excerpt(start + max(0, done + count - context), start + done, min(start + done + count, stop))


def _tokens_read(document: Span, stride: int, context: int) -> int:
    """Approximate number of tokens that a model reads to score a document half a context at a time."""
    length = document[1] - document[0]
    return min(length, context) + max(0, -(-(length - context) * 2 // stride)) * context


class _Steps:
    """AdamW for adapters, whose last rows can be dropped together with their optimizer state."""

    def __init__(self, adapters: Adapters, config: DocumentsConfig) -> None:
        self.adapters = adapters
        self._optimizer = torch.optim.AdamW(
            [part for pair in adapters.pairs.values() for part in pair],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def keep(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        if all(len(pair.a) == rows for pair in self.adapters.pairs.values()):
            return
        kept = {
            place: LowRank(self._kept(pair.a, rows), self._kept(pair.b, rows))
            for place, pair in self.adapters.pairs.items()
        }
        self.adapters = Adapters(kept, self.adapters.scale)
        self._optimizer.param_groups[0]["params"] = [part for pair in kept.values() for part in pair]

    def step(self, loss: Callable[[], Tensor]) -> None:
        """Take one step on the gradient of a loss."""
        with torch.enable_grad():
            loss().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _kept(self, parameter: Tensor, rows: int) -> Tensor:
        new = parameter.detach()[:rows].clone().requires_grad_()
        state = self._optimizer.state.pop(parameter, {})
        if state:
            self._optimizer.state[new] = {
                name: value[:rows].clone() if value.ndim else value for name, value in state.items()
            }
        return new


@contextmanager
def frozen(model: GPT) -> Iterator[None]:
    """A context in which the weights of the model have no gradients."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_()
