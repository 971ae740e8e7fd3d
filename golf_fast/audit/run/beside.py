"""Checks of the files that the score does not follow from: the documents, and the losses without adapting."""

from __future__ import annotations

import math

import numpy as np

from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import Finding, flagged, passed
from golf_fast.data.text_hashes import text_hashes

_SAME = 1e-9
"""Relative: sums of the same float32 losses in float64."""


def documents(evidence: Evidence) -> list[Finding]:
    """Whether the documents are those of the validation tokens: bounds, bytes, hashes, and the texts that are shown."""
    held, validation, spoken = evidence.documents, evidence.validation, evidence.tokenizer
    name = evidence.paths.documents.name
    if isinstance(held, Missing):
        return [] if held.absent else [flagged("result", held.why, name)]
    if isinstance(validation, Missing) or isinstance(spoken, Missing):
        return []
    tokens, count = validation.tokens, validation.targets
    starts, sizes = validation.documents()
    wanted = {
        "tokens_sha256": validation.sha256,
        "targets": count,
        "starts": starts.tolist(),
        "bytes": sizes.tolist(),
    }
    for field, value in wanted.items():
        if getattr(held, field) != value:
            return [flagged("result", "is not that of the run's validation tokens", f"{name} {field}")]
    for number, text in held.shown.items():
        first = starts[int(number)] + 1
        if spoken.pieces(tokens[first : first + len(text)]) != text:
            return [flagged("result", f"is not the text of document {number}", f"{name} shown")]
    if held.texts and held.texts != text_hashes(tokens, starts.tolist(), spoken):
        return [flagged("result", "is not that of the text of the run's documents", f"{name} texts")]
    return [passed("result", f"{len(starts):,} documents are those of the run's tokens", name)]


def losses_before(evidence: Evidence) -> list[Finding]:
    """Whether the losses without adapting are whole, and make the score without adapting."""
    held, result, name = evidence.losses_before, evidence.result, evidence.paths.token_losses_before.name
    if evidence.config.score.ttt == "off":
        return []
    if isinstance(held, Missing):
        return [] if held.absent else [flagged("losses", held.why, name)]
    if len(held) != result.val_tokens:
        return [flagged("losses", f"holds {len(held):,} losses, val_tokens is {result.val_tokens}", name)]
    if not result.val_bytes:
        return []
    bpb, said = float(held.sum(dtype=np.float64)) / math.log(2) / result.val_bytes, result.bpb_without_ttt
    if said is None or not math.isclose(said, bpb, rel_tol=_SAME):
        return [flagged("result", f"is {said}, {name} makes it {bpb}", "result.json bpb_without_ttt")]
    return [passed("result", f"makes {bpb:.6f} bits per byte without adapting", name)]
