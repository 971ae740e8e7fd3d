"""Scoring without adaptation: by sliding windows, or in one pass along the stream. Track A.

A model that keeps documents separate is scored document by document, without context from other documents.
"""

from __future__ import annotations

from golf_fast.score.ttt import documents
from golf_fast.score.ttt.work import Work


def run(work: Work) -> None:
    """Score by documents, by one pass along the stream, or by windows, as the model and the settings say."""
    if work.model.config.separate_documents:
        documents.score_apart(work, documents.batches(work, work.examiner.documents))
        return
    if work.config.streaming:
        work.examiner.score_stream()
        return
    work.examiner.score_windows(0, work.examiner.windows.count)
