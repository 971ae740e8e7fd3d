"""The numbers of a result, computed again from the losses, the tokens and the other files."""

from __future__ import annotations

import math

import numpy as np
import sentencepiece

from golf_fast.audit.run import clock
from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import Finding, flagged, passed, unknown
from golf_fast.data import Tokenizer
from golf_fast.data.validation import count_bytes
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, sha256
from golf_fast.rules import VALIDATION_BYTES, VALIDATION_TARGETS
from golf_fast.runs import result as results
from golf_fast.score import probes

_SAME = 1e-9
"""Relative: sums of the same float32 losses in float64."""
_NORMALIZED = 0.005
"""Share of the bytes by which a tokenizer that normalizes its text may count others than the text had."""
_DECODED_TOKENS = 1 << 21
"""Tokens whose text is put together; the bytes of all others are looked up in the table that this checks."""


def sums(evidence: Evidence) -> list[Finding]:
    """Totals and bits per byte from the loss of each token."""
    losses, result = evidence.losses, evidence.result
    if isinstance(losses, Missing):
        return [unknown("result", losses.why)]
    found = []
    path = evidence.paths.token_losses.name
    broken = np.flatnonzero(~(np.isfinite(losses) & (losses >= 0)))
    if broken.size:
        found.append(flagged("losses", f"target {broken[0]} has {losses[broken[0]]}; a loss is 0 or more", path))
    if len(losses) != result.val_tokens:
        found.append(flagged("V3", f"holds {len(losses):,} losses, val_tokens is {result.val_tokens}", path))
    targets = None if isinstance(evidence.events, Missing) or not evidence.events else evidence.events[0].get("targets")
    if targets is not None and targets != len(losses):
        found.append(flagged("V3", f"holds {len(losses):,} losses, the ledger is of {targets:,} targets", path))
    nats = float(losses.sum(dtype=np.float64))
    loss = nats / max(len(losses), 1)
    bpb = nats / math.log(2) / result.val_bytes if result.val_bytes else None
    for name, said, computed in (("val_loss", result.val_loss, loss), ("val_bpb", result.val_bpb, bpb)):
        if said is None or computed is None or not math.isclose(said, computed, rel_tol=_SAME):
            found.append(flagged("result", f"is {said}, the losses make it {computed}", f"result.json {name}"))
    if evidence.config.score.ttt == "off" and result.bpb_without_ttt != result.val_bpb:
        text = f"is {result.bpb_without_ttt}, and nothing adapted: val_bpb is {result.val_bpb}"
        found.append(flagged("result", text, "result.json bpb_without_ttt"))
    return found or [
        passed("result", f"{len(losses):,} losses make {loss:.6f} nats a token and {bpb:.6f} bits per byte")
    ]


def seen(evidence: Evidence) -> list[Finding]:
    """The scores of the result against those that the metrics have of the stages, where they have them."""
    result, found = evidence.result, []
    wanted = {"score before compression": "bpb_before_compression", "score after compression": "bpb_without_ttt"}
    fields = [*wanted.items(), (clock.SCORED_IN[evidence.config.score.ttt == "off"], "val_bpb")]
    for stage, name in fields:
        records = [each for each in evidence.records if each.get("kind") == "stage" and each.get("name") == stage]
        bpb, said = (records[-1].get("bpb") if records else None), getattr(result, name)
        if isinstance(bpb, float) and (said is None or not math.isclose(said, bpb, rel_tol=_SAME)):
            text = f"is {said}, the metrics have {bpb} of the stage {stage}"
            found.append(flagged("result", text, f"result.json {name}"))
    return found


def byte_count(evidence: Evidence) -> list[Finding]:
    """V6 and V7: each piece against the text that it decodes to, and the bytes of all tokens."""
    spoken, validation, result = evidence.tokenizer, evidence.validation, evidence.result
    if isinstance(spoken, Missing):
        return [unknown(rule, spoken.why) for rule in ("V6", "V7")]
    found = [_pieces(spoken)]
    dataset = evidence.dataset
    if not isinstance(dataset, Missing) and sha256(dataset.tokenizer_path) != sha256(spoken.path):
        text = f"is not the tokenizer that the run's data are made with, {dataset.tokenizer_path}"
        found.append(flagged("V6", text, spoken.path.name))
    if isinstance(validation, Missing):
        return [*found, *(unknown(rule, f"the tokens were not counted: {validation.why}") for rule in ("V6", "V7"))]
    tokens = validation.tokens
    if result.val_bytes != validation.bytes:
        text = f"is {result.val_bytes}, the text of the {validation.targets:,} targets has {validation.bytes:,} bytes"
        return [*found, flagged("V6", text, "result.json val_bytes")]
    variant = evidence.variant or ""
    of_text = VALIDATION_BYTES.get(variant)
    if of_text is not None and len(tokens) - 1 == VALIDATION_TARGETS[variant] and validation.bytes != of_text:
        text = f"the targets stand for {validation.bytes:,} bytes, those of {variant} for {of_text:,}"
        return [*found, flagged("V6", f"{text}: other tokens, or another tokenizer")]
    pieces = int(count_bytes(tokens, spoken.token_bytes()).sum(dtype=np.int64))
    if pieces != validation.bytes:  # only a side-car can differ
        off = f"the side-car counts {validation.bytes:,} bytes, the pieces of the tokenizer {pieces:,}"
        if abs(pieces - validation.bytes) > _NORMALIZED * pieces:
            return [*found, flagged("V6", off)]
        why = f"{off}: a tokenizer that normalizes text may, and which of both the text has is not known without it"
        return [*found, unknown("V6", why), unknown("V7", why)]
    some = tokens[: _DECODED_TOKENS + 1]
    size = len(spoken.decode_bytes(some)) - len(spoken.decode_bytes(some[:1]))
    counted = int(validation.byte_counts[: len(some) - 1].sum(dtype=np.int64))
    if size != counted:
        text = f"the first {len(some) - 1:,} targets count {counted:,} bytes and decode to {size:,}"
        return [*found, flagged("V6", text)]
    text = f"{validation.bytes:,} bytes; the first {len(some) - 1:,} targets were decoded"
    return [*found, passed("V6", text), passed("V7", text)]


def _pieces(spoken: Tokenizer) -> Finding:
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(read_bytes(spoken.path, "a SentencePiece model is needed"))
    table = spoken.token_bytes()

    def count(before: int, token: int) -> int:
        return int(table.count(np.array([before]), np.array([token]))[0])

    silent = [] if table.operators is None else np.flatnonzero(table.operators).tolist()
    probe = probes.byte_accounting(count, model, silent)
    if probe.passed:
        return passed("V7", f"each of {spoken.vocab_size:,} pieces counts the bytes by which it lengthens a text")
    return flagged("V7" if "byte-fallback" in probe.where else "V6", probe.where, spoken.path.name)


def derived(evidence: Evidence) -> list[Finding]:
    """Whether the fields of the result that follow from others do, and it is of the run that the settings describe."""
    result, config, found = evidence.result, evidence.config, []
    try:
        results.read(evidence.paths.result)
    except InputError as error:
        found.append(
            flagged("result", str(error).removeprefix(f"{evidence.paths.result}: "), evidence.paths.result.name)
        )
    for name in ("run_id", "recipe", "seed"):
        said, wanted = getattr(result, name), getattr(config, name)
        if said != wanted and wanted != "":  # a run without an id of its own was given its folder's
            found.append(flagged("result", f"is {said}, the settings say {wanted}", f"result.json {name}"))
    parts = sum(result.artifact_parts.values())
    if result.artifact_parts and parts != result.artifact_bytes:
        text = f"add up to {parts:,}, artifact_bytes is {result.artifact_bytes}"
        found.append(flagged("result", text, "result.json artifact_parts"))
    if evidence.compute_dtype is None:
        text = f"is {result.compute_dtype!s:.40}, which no model computes in"
        found.append(flagged("result", text, "result.json compute_dtype"))
    wanted_dtype = config.train.compute_dtype
    if wanted_dtype not in ("auto", result.compute_dtype):
        found.append(
            flagged("result", f"is {result.compute_dtype}, asked for was {wanted_dtype}", "result.json compute_dtype")
        )
    return found
