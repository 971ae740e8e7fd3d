"""The verdict: what is on record decides, and what cannot be judged is said in words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from golf_fast.data.overlap import Overlap
from golf_fast.rules import is_legal
from golf_fast.score.verdict import Facts, Records, eval_limit, judge, train_limit

Event = dict[str, Any]
BEGIN: Event = {"event": "begin", "targets": 100}
FULL = Facts(
    finished=True,
    window=10,
    split_targets=104,
    variant="",
    train_limit=600.0,
    train_seconds=590.0,
    quantize_seconds=8.0,
    eval_limit=0.0,
    eval_seconds=500.0,
    device="NVIDIA H100 80GB HBM3",
    world_size=8,
    overlap=Overlap(10, 0, 100, 0),
)


def scored(start: int, stop: int, **more: object) -> Event:
    return {"event": "score", "start": start, "stop": stop, **more}


def trained(start: int, stop: int) -> Event:
    return {"event": "train", "start": start, "stop": stop, "scored": True}


WHOLE = [BEGIN, scored(0, 100), {"event": "end", "targets": 100, "legal": True}]


def facts(**changes: object) -> Facts:
    return Facts(**(vars(FULL) | changes))  # type: ignore[arg-type]


def test_a_whole_pass_in_time_is_legal() -> None:
    verdict = judge(WHOLE, FULL)
    assert verdict.legal
    assert (verdict.violations, verdict.track, verdict.order) == ([], "A", "stream")
    assert verdict.not_judged == ["split: no variant of the challenge's data; it was scored whole"]


@pytest.mark.parametrize(
    ("events", "violations"),
    [
        ([BEGIN, trained(0, 100), scored(0, 100)], ["V1"]),
        ([BEGIN, scored(0, 50), trained(40, 60), scored(50, 100)], ["V1"]),
        ([BEGIN, scored(0, 50), trained(0, 50), scored(50, 100)], []),
        ([BEGIN, scored(0, 50), scored(40, 100)], ["V3"]),
        ([BEGIN, scored(50, 100), scored(0, 50)], ["V3"]),
        ([BEGIN, scored(0, 99)], ["V3"]),
        ([BEGIN, scored(0, 100), BEGIN, scored(0, 100)], ["V3"]),
        ([BEGIN, scored(0, 50), trained(0, 50), BEGIN, scored(0, 100)], ["V3"]),
        ([BEGIN, scored(0, 120)], ["V3"]),
        ([BEGIN, scored(0, 100), trained(0, 50)], ["V3"]),
        ([BEGIN, scored(0, 20, begins=True), scored(60, 100, begins=True), scored(20, 60, begins=False)], []),
        ([BEGIN, scored(30, 60, begins=False), scored(60, 100, begins=True), scored(0, 30, begins=True)], ["V3"]),
        ([], ["V3"]),
    ],
)
def test_what_the_records_say(events: list[Event], violations: list[str]) -> None:
    """An end that calls itself legal changes nothing."""
    assert judge([*events, {"event": "end", "legal": True, "violations": []}], FULL).violations == violations


def test_a_pass_that_adapts_is_of_track_b() -> None:
    assert judge([BEGIN, scored(0, 50), trained(0, 50), scored(50, 100)], FULL).track == "B"


@pytest.mark.parametrize(
    ("changes", "violations"),
    [
        ({"overlap": Overlap(10, 10, 100, 100)}, ["V1"]),  # a link to the training tokens
        ({"overlap": Overlap(10, 10, 100, 3)}, ["V1"]),  # every document, but for spaces
        ({"overlap": Overlap(0, 0, 100, 80)}, ["V1"]),  # most of the split, in shards
        ({"train_limit": 3.0, "train_seconds": 70.0, "quantize_seconds": 0.0}, ["V11"]),
        ({"train_limit": 900.0, "train_seconds": 700.0, "quantize_seconds": 0.0}, ["V11"]),
        ({"train_limit": 900.0, "train_seconds": 590.0, "quantize_seconds": 20.0}, ["V9"]),
        ({"eval_limit": 900.0, "eval_seconds": 700.0}, ["V11"]),
        ({"quantize_seconds": 11.0}, ["V9"]),
        ({"eval_seconds": 601.0}, ["V11"]),
        ({"eval_limit": 100.0, "eval_seconds": 101.0, "world_size": 1, "device": "CPU"}, ["V11"]),
        ({"eval_seconds": 601.0, "world_size": 1, "device": "CPU"}, []),
        ({"split_targets": 111}, ["V8"]),
        ({"variant": "sp1024"}, ["V8"]),
        ({"planned": ["V1"]}, ["V1"]),
    ],
)
def test_what_the_run_around_it_says(changes: dict[str, object], violations: list[str]) -> None:
    verdict = judge(WHOLE, facts(**changes))
    assert verdict.violations == violations
    assert verdict.legal == (not violations)


@pytest.mark.parametrize(
    ("changes", "said", "legal"),
    [
        ({"train_limit": 0.0}, "V9, V11: training had no limit of time", False),
        ({"finished": False}, "the run did not finish", False),
        ({"world_size": 1, "device": "CPU"}, "time: limits are meant for 8xH100, this ran on 1 x CPU", True),
        ({"overlap": Overlap(100, 2, 100, 0)}, "overlap: 2 of 100 held-out documents are training documents too", True),
    ],
)
def test_what_cannot_be_judged_is_said_in_words(changes: dict[str, object], said: str, legal: bool) -> None:
    verdict = judge(WHOLE, facts(**changes))
    assert verdict.violations == []
    assert said in verdict.not_judged
    assert verdict.legal == legal == is_legal(verdict.violations, verdict.not_judged)


def test_an_unfinished_run_without_a_pass_is_not_legal_and_no_violation() -> None:
    verdict = judge([], facts(finished=False))
    assert (verdict.violations, verdict.legal) == ([], False)


def test_an_order_other_than_the_stream_s_is_said() -> None:
    verdict = judge([BEGIN, scored(60, 100, begins=True), scored(0, 60, begins=True)], FULL)
    assert verdict.order == "length"
    assert any(said.startswith("order: ") for said in verdict.not_judged)
    assert verdict.violations == []


def test_training_tokens_in_the_evaluation_are_said() -> None:
    verdict = judge([BEGIN, {"event": "adapt", "source": "training", "size": 2048}, *WHOLE[1:]], FULL)
    assert (verdict.track, verdict.legal) == ("A", True)
    assert any("2,048 training tokens" in said for said in verdict.not_judged)


def test_a_time_that_nobody_recorded_leaves_the_run_open() -> None:
    events = [BEGIN, {"event": "score", "start": 0, "stop": 100}]
    for limit in (0.0, 600.0):
        assert not judge(events, replace(FULL, train_limit=limit, train_seconds=None)).legal
    assert judge(events, FULL).legal


@pytest.mark.parametrize(
    ("between", "violations"),
    [
        ([], ["V1"]),
        ([{"event": "train", "start": 0, "stop": 50, "window": 25, "scored": True}], []),
        ([{"event": "train", "start": 0, "stop": 50, "batch": 0, "scored": True}], ["V1"]),
        ([{"event": "adapt", "size": 3}], []),
    ],
)
def test_weights_that_change_have_learned_from_what_is_on_record(between: list[Event], violations: list[str]) -> None:
    """What a document's adapters learn from is no reason for other weights."""
    events = [BEGIN, scored(0, 50) | {"weights": "a"}, *between, scored(50, 100) | {"weights": "b"}]
    records = Records(events)
    assert judge(records, FULL).violations == violations
    assert records.unexplained == (len(events) if violations else 0)
    assert records.violations == dict.fromkeys(violations, len(events))


@pytest.mark.parametrize(
    ("own", "device", "found"),
    [
        (700.0, "NVIDIA H100 80GB HBM3", 600.0),
        (None, "NVIDIA H100 80GB HBM3", 600.0),
        (0.0, "NVIDIA H100 80GB HBM3", 600.0),
        (300.0, "NVIDIA H100 80GB HBM3", 300.0),
        (700.0, "a CPU", 700.0),
        (0.0, "a CPU", math.inf),
    ],
)
def test_the_limits_of_a_run(own: float | None, device: str, found: float) -> None:
    facts = Facts(train_limit=own, eval_limit=own, device=device, world_size=8)
    assert train_limit(facts) == eval_limit(facts) == found
