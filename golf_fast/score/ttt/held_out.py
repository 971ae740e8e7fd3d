"""Training of all weights on a held-out slice of the training tokens, before anything is scored. Track A.

Reviewers recommend it in place of training on the tokens to be scored: the predictor is fixed when scoring begins.
"""

from __future__ import annotations

from golf_fast.errors import InputError
from golf_fast.score import digest
from golf_fast.score.rows import of_training
from golf_fast.score.ttt.weights import Descent, WeightTrainer, rate
from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Train on the slice, then score every window.

    Raises:
        InputError: there are no training tokens, or fewer than one row.
    """
    c, examiner, slice_of = work.config.held_out, work.examiner, work.training
    window = work.config.window
    if slice_of is None or len(slice_of) <= window:
        raise InputError(
            "score.ttt is held_out: it needs training tokens, "
            + ("and here are none" if slice_of is None else f"at least {window + 1} and not {len(slice_of)}")
        )
    rows = of_training(slice_of, window, work.ranks.device)
    examiner.trains_elsewhere(len(slice_of), digest.of_tokens(slice_of, [(-1, len(slice_of) - 1)]))
    descent = Descent(
        "sgd", c.lr, c.momentum, c.batch_rows, c.grad_clip, work.config.ttt_freeze_blocks, work.config.compile
    )
    trainer = WeightTrainer(work.model, descent, work.ranks)
    if examiner.pace.limit:
        examiner.measure_windows(rows)
    steps = -(-rows.count // c.batch_rows)
    planned, given = steps * c.epochs, examiner.pace.given("slice", 0)
    for step in range(planned):
        if step == given or not examiner.pace.all_fits(row=c.batch_rows, window=examiner.windows.count):
            examiner.gave_up("slice", 0, step, planned)
            examiner.pace.say(f"training on the slice ends after step {step} of {planned}, to score in time")
            break
        first = step % steps * c.batch_rows
        stop = min(first + c.batch_rows, rows.count)
        with examiner.pace.measured("row", stop - first):
            trainer.train(rows.part(first, stop), rate(c.lr, "cosine", step, planned), 1)
    examiner.score_windows(0, examiner.windows.count)
