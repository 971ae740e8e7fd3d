"""No adapting: sliding windows over the stream with the model as it is. Track A."""

from __future__ import annotations

from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Score every window."""
    work.examiner.score_windows(0, work.examiner.windows.count)
