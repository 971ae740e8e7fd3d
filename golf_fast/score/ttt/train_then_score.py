"""The seed's published protocol: all weights are trained on all rows before these are scored. Track B, illegal (V1)."""

from __future__ import annotations

from golf_fast.score.ttt.weights import Descent, WeightTrainer
from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Train on all tokens that are to be scored, then score them."""
    c, examiner = work.config, work.examiner
    trainer = WeightTrainer(work.model, Descent.of(c), work.ranks)
    count = examiner.targets // c.window
    if count:
        trainer.train_each_share(examiner.unscored_rows(0, count, c.window), c.ttt_lr, c.ttt_epochs)
    examiner.score_windows(0, examiner.windows.count)
