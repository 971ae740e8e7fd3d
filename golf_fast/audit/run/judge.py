"""The verdict on a run directory: everything that can be computed again, rule by rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from golf_fast.audit.run import beside, clock, files, known, losses, record, totals
from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import RECORDS, Finding, flagged, outcome_of, passed, unknown
from golf_fast.audit.run.replay import Sample
from golf_fast.data import BOS_ID
from golf_fast.data.overlap import Overlap, find_overlap
from golf_fast.errors import InputError, printable
from golf_fast.files import sha256
from golf_fast.rules import VIOLATIONS
from golf_fast.runs.schedule import Times
from golf_fast.score.verdict import Facts, Records, Verdict, eval_limit, judge, train_limit

_BY_RECORD = ("V1", "V3", "V8", "V9", "V11")
"""Rules that `golf_fast.score.verdict` reads off the ledger and the facts of a run."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        run: directory of the run.
        verdict: verdict of `golf_fast.score.verdict.judge` on ledger and facts; None if the ledger cannot be read.
        findings: findings of all checks.
    """

    run: Path
    verdict: Verdict | None
    findings: list[Finding]

    @property
    def flagged(self) -> list[str]:
        """The checks that found something wrong: rules by number, records by name."""
        return [check for check in _CHECKS if outcome_of(self.of(check)) == "flag"]

    def of(self, check: str) -> list[Finding]:
        """The findings of one check."""
        return [finding for finding in self.findings if finding.check == check]

    def as_json(self) -> dict[str, Any]:
        """Plain values: the outcome of every check with what was found, and the verdict."""
        checks = [
            {
                "check": check,
                "outcome": outcome_of(self.of(check)),
                "findings": [finding.as_json() for finding in self.of(check)],
            }
            for check in _CHECKS
        ]
        verdict = self.verdict and {
            "violations": self.verdict.violations,
            "not_judged": self.verdict.not_judged,
            "track": self.verdict.track,
            "order": self.verdict.order,
            "legal": self.verdict.legal,
        }
        return {"run": str(self.run), "flagged": self.flagged, "checks": checks, "verdict": verdict}

    def lines(self) -> list[str]:
        """For people: each check with its outcome, and below it what decided."""
        shown = [f"{printable(self.run)}"]
        for check in _CHECKS:
            found = self.of(check)
            outcome = outcome_of(found)
            name = VIOLATIONS[check].name if check in VIOLATIONS else RECORDS[check]
            shown.append(f"{check:8}  {outcome:7}  {name}")
            deciding = [finding for finding in found if finding.outcome == outcome]
            shown += [f"{'':19}  {printable(said)}" for said in dict.fromkeys(each.said for each in deciding)]
        if self.verdict is not None:
            shown.append(f"by ledger and times: {printable(self.verdict.words)}; track {self.verdict.track}")
        shown.append(f"flagged: {', '.join(self.flagged)}" if self.flagged else "nothing was flagged")
        return shown


_CHECKS = (*VIOLATIONS, *RECORDS)


def audit(
    folder: Path,
    sample: Sample,
    device: torch.device,
    data: Path | None = None,
    code: tuple[str, int] | None = None,
    read_code: Callable[[Path], Sequence[str]] = lambda path: (),
) -> Audit:
    """Judge a run directory; nothing in it is written.

    Args:
        folder: directory of the run.
        sample: targets to replay.
        device: device to replay on.
        data: folder with the validation shards of the run, if they are no longer where they were.
        code: hash and size in bytes of the installed code; None: they are computed.
        read_code: function from the file of code that a run left to the faults in it; called if that code is not the
            installed code.

    Raises:
        InputError: the folder is no run.
    """
    evidence = Evidence(folder, data)
    installed = code or files.installed_code(evidence.config)
    found = [*files.shipped(evidence, installed), *files.recipe(evidence)]
    if evidence.paths.code.is_file() and installed[0] != evidence.result.code_hash:
        found += [flagged("code", said, evidence.paths.code.name) for said in read_code(evidence.paths.code)]
    found += [*totals.derived(evidence), *totals.sums(evidence), *totals.seen(evidence), *totals.byte_count(evidence)]
    found += [*clock.times(evidence), *beside.documents(evidence), *beside.losses_before(evidence)]
    found += [*_split(evidence), *files.unchanged(evidence), *files.machine(evidence)]
    if evidence.doubt_of_metrics:
        found.append(unknown("settings", evidence.doubt_of_metrics, evidence.paths.metrics.name))
    model = losses.model_of(evidence, device)
    if isinstance(model, Missing):
        found += losses.no_model(evidence, model)
    else:
        found += [*losses.probed(model), *known.known(evidence, model, sample)]
    verdict = None
    events = evidence.events
    if isinstance(events, Missing):
        found.append((unknown if events.absent else flagged)("ledger", events.why))
        found += [unknown(rule, "there is no ledger to judge") for rule in (*_BY_RECORD, "V13")]
    else:
        hashed = None if isinstance(model, Missing) else losses.weights_hash(model)
        facts = _facts(evidence)
        records = Records(events)
        verdict = judge(records, facts)
        found += [*_recorded(evidence, hashed, records), *_by_rule(evidence, records, verdict, facts)]
        found += _claims(evidence, verdict)
    if not isinstance(model, Missing):
        found += [*losses.replayed(evidence, model, sample), *losses.replayed_before(evidence, model, sample)]
    text = f"one run says nothing of other seeds; its code has SHA-256 {evidence.result.code_hash[:12] or 'unrecorded'}"
    found.append(unknown("V14", text))
    return Audit(folder, verdict, found)


def _facts(evidence: Evidence) -> Facts:
    """The facts that the verdict needs besides the ledger, from the files of the run and not from its conclusions."""
    config, result, schedule, split = evidence.config, evidence.result, evidence.schedule, evidence.split
    budget: Times | None = None if isinstance(schedule, Missing) else schedule.budget
    return Facts(
        finished=result.finished,
        planned=() if result.finished else config.score.violations,
        window=config.score.window,
        split_targets=None if isinstance(split, Missing) else split[1],
        variant=evidence.variant,
        train_limit=config.train.max_seconds,
        train_seconds=budget.trained if budget else None,
        quantize_seconds=budget.quantized if budget else None,
        eval_limit=config.score.max_seconds or None,
        eval_seconds=result.eval_seconds,
        device=result.device,
        world_size=result.world_size,
        overlap=_overlap(evidence),
    )


def _overlap(evidence: Evidence) -> Overlap | None:
    dataset = evidence.dataset
    if isinstance(dataset, Missing):
        return None
    try:
        return find_overlap(dataset)
    except InputError:
        return None


def _split(evidence: Evidence) -> list[Finding]:
    """V8: whether the shards are those that were scored, and all of their folder."""
    shards, split = evidence.shards, evidence.split
    if isinstance(shards, Missing):
        return [(unknown if shards.absent else flagged)("V8", shards.why)]
    if isinstance(split, Missing):
        return [unknown("V8", split.why)]
    dataset = evidence.dataset
    if not isinstance(dataset, Missing) and not _same_files(shards, dataset.val_shards):
        text = f"{shards[0]} and the others that were scored are not those of the run's data, {dataset.val_shards[0]}"
        return [flagged("V8", text, "result.json validation_shards")]
    left_out = sorted({path.name for path in split[0]} - {path.name for path in shards})
    if left_out:
        return [flagged("V8", f"{len(left_out)} validation shards were not scored, the first is {left_out[0]}")]
    return []


def _same_files(paths: Sequence[Path], others: Sequence[Path]) -> bool:
    return len(paths) == len(others) and all(
        path.samefile(other) or sha256(path) == sha256(other) for path, other in zip(paths, others, strict=True)
    )


def _recorded(evidence: Evidence, weights: str | None, records: Records) -> Iterable[Finding]:
    events, tokens, config, path = evidence.events, evidence.tokens, evidence.config, evidence.paths.ledger
    assert not isinstance(events, Missing)
    yield from record.outline(events, path, config.score, evidence.result.finished, records)
    yield from record.weights_named(events, path, weights, exact=config.compress.low_rank == 0)
    if isinstance(tokens, Missing):
        yield unknown("ledger", f"its hashes were not compared: {tokens.why}")
        if config.score.ttt in record.STREAM and not config.model.separate_documents:
            yield passed("V13", "one uncut stream is scored; no document is declared separate")
    else:
        yield from record.tokens_named(events, tokens, path)
        if events and events[0].get("targets") == len(tokens) - 1:
            yield record.documents_kept_apart(events, tokens, BOS_ID, path, config)


def _by_rule(evidence: Evidence, records: Records, verdict: Verdict, facts: Facts) -> Iterable[Finding]:
    """The verdict, rule by rule: broken where, left open why, or followed."""
    events, path = evidence.events, evidence.paths.ledger
    assert not isinstance(events, Missing)
    for rule in verdict.violations:
        yield _broken(rule, evidence, facts) or record.by_line(events, rule, path, records.violations.get(rule))
    if number := records.unexplained:
        yield flagged("V1", "the weights changed, and no record says what they learned", f"{path.name} line {number}")
    open_rules = dict[str, str]()
    if facts.finished is not True:
        open_rules |= dict.fromkeys(_BY_RECORD, "the run did not finish")
    for said in verdict.not_judged:
        for rule in _about(said):
            open_rules.setdefault(rule, said)
    if facts.overlap is None:
        why = evidence.dataset.why if isinstance(evidence.dataset, Missing) else "the shards cannot be read"
        open_rules.setdefault("V1", f"the training text was not compared with the validation text: {why}")
    if facts.split_targets is None:
        open_rules.setdefault("V8", "the split is not here to be counted")
    if facts.train_seconds is None:
        open_rules |= dict.fromkeys(("V9", "V11"), "the seconds of training and quantizing are not on record")
    for rule in _BY_RECORD:
        if rule in open_rules:
            yield unknown(rule, open_rules[rule])
        elif rule not in verdict.violations:
            yield passed(rule, _followed(rule, facts, len(events)))


def _about(said: str) -> tuple[str, ...]:
    """The rules that a sentence of the verdict leaves open."""
    begins = {"V9, V11": ("V9", "V11"), "split": ("V8",), "overlap": ("V1",), "time": ("V9", "V11"), "order": ("V3",)}
    begins["evaluation"] = ("V12",)
    return begins.get(said.partition(":")[0], ())


def _broken(rule: str, evidence: Evidence, facts: Facts) -> Finding | None:
    """The finding for a broken rule that the ledger does not show by itself."""
    if rule == "V1" and facts.planned:
        return flagged(
            rule, f"score.ttt is {evidence.config.score.ttt}, which trains before it scores", evidence.paths.config.name
        )
    if rule == "V9":
        text = f"training took {facts.train_seconds:g} s and quantizing {facts.quantize_seconds:g} s of"
        return flagged(rule, f"{text} {train_limit(facts):g} s", evidence.paths.schedule.name)
    if rule == "V11":
        return flagged(
            rule,
            f"{_took('training', facts.train_seconds, train_limit(facts))}, "
            f"{_took('the evaluation', facts.eval_seconds, eval_limit(facts))}",
        )
    if rule == "V8":
        events = evidence.events
        targets = 0 if isinstance(events, Missing) or not events else events[0].get("targets", 0)
        whole = f"the split on disk has {facts.split_targets}" if facts.split_targets is not None else ""
        name = f"the variant is {facts.variant}" if facts.variant else ""
        return flagged(rule, f"{targets:,} targets were scored; {', '.join(filter(None, (whole, name)))}")
    return None


def _took(what: str, seconds: float | None, limit: float) -> str:
    """The seconds that a stage took and its limit, for people."""
    took = "an unknown time" if seconds is None else f"{seconds} s"
    return f"{what} took {took} ({f'limit {limit:g}' if limit < math.inf else 'no limit'})"


def _followed(rule: str, facts: Facts, lines: int) -> str:
    if rule == "V8":
        return f"the split on disk has {facts.split_targets:,} targets, and its whole rows were scored"
    if rule in ("V9", "V11"):
        return f"training took {facts.train_seconds:g} s and quantizing {facts.quantize_seconds:g} s"
    if rule == "V1" and facts.overlap is not None:
        return f"by the {lines:,} lines of the ledger; the training text was compared with the validation text"
    return f"by the {lines:,} lines of the ledger, from its first to its last"


def _claims(evidence: Evidence, verdict: Verdict) -> Iterable[Finding]:
    """What the result says of the rules, against the verdict."""
    held, found = evidence.held, []
    wanted: dict[str, Any] = {"track": verdict.track, "violations": verdict.violations, "score_order": verdict.order}
    for name, value in wanted.items():
        said = held.get(name, value)
        if (sorted(map(str, said)) if isinstance(said, list) else said) != (
            sorted(value) if isinstance(value, list) else value
        ):
            found.append(
                flagged("result", f"is {said}, the ledger and the times make it {value}", f"result.json {name}")
            )
    if held.get("legal") is True and not verdict.legal:
        why = f"breaks {', '.join(verdict.violations)}" if verdict.violations else "leaves a rule open"
        made = flagged if verdict.violations else unknown
        found.append(made("result", f"is true, and the run {why}", "result.json legal"))
    said_open = held.get("not_judged")
    if isinstance(said_open, list):
        topics = {str(said).partition(":")[0] for said in said_open}
        hidden = [said for said in verdict.not_judged if said.partition(":")[0] not in topics]
        found += [flagged("result", f"does not have: {said}", "result.json not_judged") for said in hidden]
    return found
