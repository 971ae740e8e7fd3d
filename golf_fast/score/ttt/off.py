"""No adapting: sliding windows over the stream, or one pass along it, with the model as it is. Track A.

A model that keeps documents separate is scored document by document, each with nothing before it.
"""

from __future__ import annotations

from golf_fast.score.ttt import documents
from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Score every document, or every window, or stream."""
    if work.model.config.separate_documents:
        documents.score_apart(work, documents.batches(work, work.examiner.documents))
        return
    if work.config.streaming:
        work.examiner.score_stream()
        return
    work.examiner.score_windows(0, work.examiner.windows.count)
