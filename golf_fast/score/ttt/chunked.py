"""Chunks of the stream: each is scored, then all weights train on it. Track B.

The legal protocol that replaced the seed's (docs/seed.md, section 6).
"""

from __future__ import annotations

import math

from golf_fast.score.ttt.weights import Descent, WeightTrainer, rate
from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Score a chunk, then train on it, until nothing is left to score."""
    c, examiner = work.config, work.examiner
    chunks = math.ceil(examiner.targets / c.ttt_chunk_tokens)
    trainer = WeightTrainer(work.model, Descent.of(c), work.ranks)
    most = c.ttt_epochs
    for chunk in range(chunks):
        start = chunk * c.ttt_chunk_tokens
        stop = min(start + c.ttt_chunk_tokens, examiner.targets)
        examiner.score_windows(*examiner.windows.scoring_from(start, stop))
        if examiner.complete:
            break
        count = (stop - start) // c.window
        most = _affordable(work, most, chunk, chunks, stop, count)
        if not most:
            continue
        lr = rate(c.ttt_lr, c.ttt_schedule, chunk, chunks)
        rows = examiner.rows_for_training(start, count, c.window)
        done = 0
        if examiner.pace.limit and not examiner.pace.known("epoch"):
            # One epoch is the measure of the others, before more are planned.
            with examiner.pace.measured("epoch", count):
                trainer.train(rows, lr, 1)
            done, most = 1, _affordable(work, most, chunk, chunks, stop, count)
        if most > done:
            with examiner.pace.measured("epoch", count * (most - done)):
                trainer.train(rows, lr, most - done)


def _affordable(work: Work, most: int, chunk: int, chunks: int, scored: int, rows: int) -> int:
    """Epochs of this chunk and the ones that follow, at most `most`, that leave time to score what is left."""
    pace, windows = work.examiner.pace, work.examiner.windows
    left = windows.count - windows.scoring_from(0, scored)[1]
    count = most
    while count and not pace.all_fits(window=left, epoch=count * (chunks - 1 - chunk) * rows):
        count -= 1
    if count < most:
        pace.say(
            f"from chunk {chunk} of {chunks} on there is time for {count} epoch(s) of the "
            f"{work.config.ttt_epochs} of score.ttt_epochs, within score.max_seconds {pace.limit:g}"
        )
    return count
