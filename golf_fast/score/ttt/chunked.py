"""Chunks of the stream: each is scored, then all weights train on it. Track B.

The legal protocol that replaced the seed's (docs/seed.md, section 6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from golf_fast.score.ttt.weights import Descent, WeightTrainer, rate
from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Score each chunk and then train on it, until all targets are scored."""
    c, examiner = work.config, work.examiner
    chunks = math.ceil(examiner.targets / c.ttt_chunk_tokens)
    trainer = WeightTrainer(work.model, Descent.of(c), work.ranks)
    for chunk in range(chunks):
        start = chunk * c.ttt_chunk_tokens
        stop = min(start + c.ttt_chunk_tokens, examiner.targets)
        examiner.score_windows(*examiner.windows.scoring_from(start, stop))
        if examiner.complete:
            break
        count = (stop - start) // c.window
        plan = _Plan(work, chunk, chunks, start, stop, count)
        most = plan.epochs(0)
        if not most:
            plan.tell(0)
            continue
        lr = rate(c.ttt_lr, c.ttt_schedule, chunk, chunks)
        rows = examiner.rows_for_training(start, count, c.window)
        done = 0
        while done < most:
            # Until the rate of an epoch is known, run one at a time to measure it.
            measuring = examiner.pace.limit > 0 and not examiner.pace.known("epoch")
            epochs = 1 if measuring else most - done
            with examiner.pace.measured("epoch", count * epochs):
                trainer.train(rows, lr, epochs)
            done += epochs
            if measuring:
                most = plan.epochs(done)
        plan.tell(done)


@dataclass(frozen=True)
class _Plan:
    """Decides how long to train on a chunk.

    Attributes:
        chunk: number of the chunk, of `chunks`.
        start: first target of the chunk.
        scored: number of targets scored so far.
        rows: number of rows of the chunk.
    """

    work: Work
    chunk: int
    chunks: int
    start: int
    scored: int
    rows: int

    def epochs(self, done: int) -> int:
        """The epochs for this and each later chunk that leave time to score the rest; `done` of this one's are done."""
        pace, windows, most = self.work.examiner.pace, self.work.examiner.windows, self.work.config.ttt_epochs
        given = pace.given("epochs", self.start)
        if given is not None:
            return given
        left = windows.count - windows.scoring_from(0, self.scored)[1]
        trained = self.chunks - 1 - self.chunk
        count = most
        while count > done and not pace.all_fits(window=left, epoch=(count * trained - done) * self.rows):
            count -= 1
        if count == done < most and not pace.known("epoch") and pace.all_fits(epoch=self.rows):
            # An upper bound is no reason to give up what follows.
            count += 1
        return count

    def tell(self, epochs: int) -> None:
        """Record that there is not time for all epochs, if so, and log it once for each number of epochs."""
        pace, most = self.work.examiner.pace, self.work.config.ttt_epochs
        if epochs < most:
            self.work.examiner.gave_up("epochs", self.start, epochs, most)
            pace.say(
                f"in chunk {self.chunk} of {self.chunks} there is time for {epochs} epoch(s) of the "
                f"{most} of score.ttt_epochs, within score.max_seconds {pace.limit:g}",
                topic=f"{epochs} epochs",
            )
