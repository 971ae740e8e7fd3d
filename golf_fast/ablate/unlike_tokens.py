"""Variants whose tokens are not those of the whole recipe, over the documents that both scored alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from golf_fast.ablate.findings import LEVEL, Finding, OverShared
from golf_fast.ablate.runs import Outcome
from golf_fast.ablate.variants import WHOLE
from golf_fast.errors import InputError
from golf_fast.runs import FinishedRun
from golf_fast.runs.documents import Documents
from golf_fast.runs.same_text import Shared, shared
from golf_fast.statistics import mean_interval

_Recorded = tuple[FinishedRun, Documents]


def compared(found: Sequence[Finding], outcomes: Iterable[Outcome]) -> tuple[list[Finding], list[str]]:
    """The findings, with what variants of other tokens are worth over the documents that both scored alike.

    A finding of runs that did not record their documents stays as it is.

    Returns:
        The findings without those of another text, and a line on each of these.
    """
    recorded = {(each.variant, each.seed): held for each in outcomes if (held := _recorded(each))}
    kept, refused = list[Finding](), list[str]()
    for each in found:
        pairs = [(recorded.get((WHOLE, seed)), recorded.get((each.name, seed))) for seed in each.seeds]
        known = [(whole, other) for whole, other in pairs if whole and other]
        try:
            alike = [shared(whole[1], other[1], (WHOLE, each.name)) for whole, other in known]
        except InputError as error:
            refused.append(f"{error}; it is left out of the table")
            continue
        if alike and len(alike) == len(pairs) and not alike[0].same_tokens:
            with suppress(InputError):  # a file of losses that is damaged
                worse = [_worse(both, *pair) for both, pair in zip(alike, known, strict=True)]
                each = replace(each, over_shared=OverShared(alike[0], mean_interval(worse, LEVEL)))
        kept.append(each)
    return kept, refused


def _recorded(outcome: Outcome) -> _Recorded | None:
    """A run with its documents, if it left any that can be read."""
    run = FinishedRun(outcome.folder) if outcome.result and outcome.folder else None
    if run is not None and run.paths.documents.exists():
        with suppress(InputError):
            return run, run.documents()
    return None


def _worse(both: Shared, whole: _Recorded, other: _Recorded) -> float:
    """Bits per byte of the other run less those of the whole recipe, over the documents that both scored alike."""
    nats = [run.document_losses(documents)[list(both.documents)].sum() for run, documents in (whole, other)]
    return float(nats[1] - nats[0]) / both.bytes / math.log(2)
