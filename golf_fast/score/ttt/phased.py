"""Per-document adapters, interleaved with passes of SGD on all weights over the documents scored so far. Track B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from golf_fast.score.ttt.documents import Span, batches, frozen, score_documents
from golf_fast.score.ttt.weights import Descent, WeightTrainer, rate
from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Score up to each boundary, then train on all documents before it."""
    documents, groups = work.examiner.documents, batches(work, work.examiner.documents)
    done: list[Span] = []
    for number, boundary in enumerate(boundaries(work, len(documents))):
        part: list[list[Span]] = []
        while groups and len(done) < boundary:
            part.append(groups.pop(0))
            done += part[-1]
        with frozen(work.model):
            score_documents(work, part, f"documents before pass {number + 1}")
        if groups:
            taken = done if work.config.phased.again else [span for group in part for span in group]
            _Pass(work, taken, sum(stop - start for group in groups for start, stop in group)).train(number + 1)
    with frozen(work.model):
        score_documents(work, groups, "documents after the last pass")


def boundaries(work: Work, documents: int) -> list[int]:
    """The numbers of scored documents after which a pass takes place; a group that crosses one is completed first."""
    c = work.config.phased
    last = min(c.documents, documents)
    return sorted({max(1, last * (k + 1) // c.phases) for k in range(c.phases)})


@dataclass(frozen=True)
class _Pass:
    """A pass of SGD over the scored documents, in the order of the stream.

    Attributes:
        scored: the scored documents.
        left: number of targets that are not scored yet.
    """

    work: Work
    scored: Sequence[Span]
    left: int

    def train(self, number: int) -> None:
        """Train chunk by chunk, as long as enough time remains to score the rest."""
        work, c, window = self.work, self.work.config.phased, self.work.config.window
        examiner, pace = work.examiner, work.examiner.pace
        ranges = joined(self.scored)
        if sum(stop - start for start, stop in ranges) < window:  # no row
            return
        rows = examiner.rows_of(ranges, window, f"pass {number}")
        freeze = work.config.ttt_freeze_blocks
        size = max(1, c.chunk_tokens // window)
        descent = Descent("sgd", c.lr, c.momentum, c.batch_rows, c.grad_clip, freeze, work.config.compile)
        trainer = WeightTrainer(work.model, descent, work.ranks, compiled_rows=size)
        chunks = -(-rows.count // size)
        own = self.left / work.ranks.world_size  # this rank's share, since its rate is that of one rank
        given = pace.given("pass", number)
        for chunk in range(chunks):
            if chunk == given or not pace.all_fits(row=size * c.epochs, forward=2.4 * own):
                examiner.gave_up("pass", number, chunk, chunks)
                pace.say(f"pass {number} ends after chunk {chunk} of {chunks}, to score in time")
                return
            part = rows.part(chunk * size, min((chunk + 1) * size, rows.count))
            with pace.measured("row", part.count * c.epochs):
                trainer.train(part, rate(c.lr, "cosine", chunk, chunks), c.epochs)


def joined(spans: Sequence[Span]) -> list[Span]:
    """The same targets in the order of the stream, merged into as few ranges as possible."""
    found: list[Span] = []
    for start, stop in sorted(spans):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found
