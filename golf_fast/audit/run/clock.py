"""The times of a run: what its result, its schedule and its metrics say of them, against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import Finding, flagged, passed, unknown
from golf_fast.runs.schedule import RecordedSchedule, Times
from golf_fast.score.verdict import Facts, eval_limit

_SLACK_SECONDS = {"train": math.inf, "compress": 120.0}
"""Seconds that a stage may take besides the work that its own clock measures: warm-up and validation, and the coding of
the artifact."""
_SLACK_ELSEWHERE = 15.0
"""The same for the other stages, which load weights and write a file."""
_HURRIED = 0.4
"""Share of the limit of scoring that a pass which gave something up for it takes at the least: it plans ahead with the
time of its first pieces, which hold what is done once, such as compiling, a second time."""
SCORED_IN = {True: "score after compression", False: "score while adapting"}
"""The stage that the score is from, by whether nothing adapts."""


def times(evidence: Evidence) -> list[Finding]:
    """Whether the recorded times agree, and calibration is inside of them."""
    schedule = evidence.schedule
    if isinstance(schedule, Missing):
        return [unknown(rule, schedule.why) for rule in ("V9", "V11")]
    found = [*_steps(evidence, schedule), *_evaluation(evidence)]
    if schedule.budget is None:
        text = "the schedule records no times; an earlier version wrote it"
        return [*found, unknown("V9", text), unknown("V11", text)]
    return [*found, *_budget(evidence, schedule, schedule.budget)]


def _budget(evidence: Evidence, schedule: RecordedSchedule, budget: Times) -> list[Finding]:
    config, found = evidence.config, []
    where = f"{evidence.paths.schedule.name} budget"
    if budget.limit != config.train.max_seconds:
        text = f"is {budget.limit:g} s, train.max_seconds {config.train.max_seconds:g} s"
        found.append(flagged("V11", text, f"{where}.limit"))
    used, said = budget.trained + budget.quantized, evidence.result.train_seconds
    if not math.isclose(used, said, rel_tol=1e-9):
        found.append(flagged("V11", f"is {said:g}, the schedule has {used:g} s", "result.json train_seconds"))
    train = [record for record in evidence.records if record.get("kind") == "train" and "seconds" in record]
    last = _number(train[-1], "seconds") if train else None
    if last is not None and budget.trained < last:
        text = f"is {budget.trained:g} s, the last step that the metrics have ended after {last:g} s"
        found.append(flagged("V11", text, f"{where}.trained"))
    speed = schedule.steps * config.train.batch_tokens / budget.trained if budget.trained > 0 else None
    told = evidence.result.tokens_per_second
    if speed is not None and told is not None and not math.isclose(speed, told, rel_tol=1e-6):
        text = f"is {told:g}, {schedule.steps} steps in {budget.trained:g} s make it {speed:g}"
        found.append(flagged("result", text, "result.json tokens_per_second"))
    found += _within(evidence, "train", budget.trained, "V11", f"{where}.trained")
    calibrated = config.compress.calibrated and not schedule.gave_up_calibration
    if calibrated and budget.quantized <= 0:
        found.append(flagged("V9", "is 0, and the compression reads training tokens", f"{where}.quantized"))
    if calibrated:
        found += _within(evidence, "compress", budget.quantized, "V9", f"{where}.quantized")
    return found


def _evaluation(evidence: Evidence) -> list[Finding]:
    seconds = evidence.result.eval_seconds
    if seconds is None:
        return [unknown("V11", "the time of the evaluation is not on record", "result.json eval_seconds")]
    stage, where = SCORED_IN[evidence.config.score.ttt == "off"], "result.json eval_seconds"
    found, whole = _within(evidence, stage, seconds, "V11", where), _seconds_of(evidence, stage)
    result, events, own = evidence.result, evidence.events, evidence.config.score.max_seconds
    limit = eval_limit(Facts(eval_limit=own, device=result.device, world_size=result.world_size))
    cuts = 0 if isinstance(events, Missing) else sum(event["event"] == "limit" for event in events)
    if cuts and seconds < _HURRIED * own:
        text = f"adapting was cut short {cuts} times for a limit of {own:g} s, and scoring took {seconds:g} s"
        text += ": a choice of what to cut by its losses would look so"
        found.append(unknown("V5", text, evidence.paths.ledger.name))
    if not found and whole is not None and seconds <= limit < whole:
        text = f"is {seconds:g} s, within {limit:g} s; the stage {stage}, which also loads the artifact, took"
        return [unknown("V11", f"{text} {whole:g} s", where)]
    return found


def _within(evidence: Evidence, stage: str, seconds: float, rule: str, where: str) -> list[Finding]:
    """Whether a time agrees with the time of its whole stage, which is a little longer."""
    whole = _seconds_of(evidence, stage)
    if whole is None:
        return [unknown(rule, f"the metrics do not have the stage {stage}", evidence.paths.metrics.name)]
    if seconds > whole or seconds < 0:
        return [flagged(rule, f"is {seconds:g} s, the whole stage {stage} took {whole:g} s", where)]
    if whole - seconds > _SLACK_SECONDS.get(stage, _SLACK_ELSEWHERE):
        return [flagged(rule, f"is {seconds:g} s, the stage {stage} took {whole:g} s", where)]
    return []


def _seconds_of(evidence: Evidence, stage: str) -> float | None:
    """Seconds that a stage took, with the attempts that were cut short; None if the metrics do not have the stage."""
    stages = [record for record in evidence.records if record.get("kind") == "stage" and record.get("name") == stage]
    whole = _number(stages[-1], "seconds") if stages else None
    if whole is None:
        return None
    again = [each for each in evidence.records if each.get("kind") == "repeated" and each.get("name") == stage]
    whole += (_number(again[-1], "seconds") or 0.0) if again else 0.0
    if stage == "train":  # its clock goes on from a checkpoint, that of the stage begins anew
        resumed = [each for each in evidence.records if each.get("kind") == "resumed" and each.get("step") is not None]
        whole += (_number(resumed[-1], "trained") or 0.0) if resumed else 0.0
    return whole


def _steps(evidence: Evidence, schedule: RecordedSchedule) -> list[Finding]:
    """Whether the schedule is the one that the metrics saw."""
    result, name = evidence.result, evidence.paths.schedule.name
    if schedule.steps != result.steps:
        return [flagged("settings", f"has {schedule.steps} steps, the result {result.steps}", name)]
    if schedule.steps > evidence.config.train.max_steps:
        text = f"has {schedule.steps} steps, train.max_steps is {evidence.config.train.max_steps}"
        return [flagged("settings", text, name)]
    compared = 0
    for record in evidence.records:
        if not _is_step(record):
            continue
        step = record["step"]
        if not 1 <= step <= schedule.steps:
            return [flagged("settings", f"has {schedule.steps} steps, the metrics step {step}", name)]
        for field, values in (("lr_factor", schedule.lr_factor), ("momentum", schedule.momentum)):
            seen = _number(record, field)
            if seen is not None and not math.isclose(seen, values[step - 1], rel_tol=1e-6, abs_tol=1e-9):
                text = f"is {values[step - 1]:g} at step {step}, the metrics have {seen:g}"
                return [flagged("settings", text, f"{name} {field}")]
        compared += 1
    last = max((each["step"] for each in evidence.records if _is_step(each)), default=schedule.steps)
    if last != schedule.steps:
        return [flagged("settings", f"has {schedule.steps} steps, the last that the metrics have is {last}", name)]
    if not compared:
        return [unknown("settings", "the metrics hold no step to compare the schedule with", name)]
    return [passed("settings", f"{schedule.steps} steps; {compared} are in the metrics too", name)]


def _is_step(record: Mapping[str, Any]) -> bool:
    return record.get("kind") == "train" and isinstance(record.get("step"), int)


def _number(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
