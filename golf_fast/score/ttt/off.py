"""No adapting: sliding windows over the stream, or one pass along it, with the model as it is. Track A."""

from __future__ import annotations

from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Score every window, or stream."""
    if work.config.streaming:
        work.examiner.score_stream()
        return
    work.examiner.score_windows(0, work.examiner.windows.count)
