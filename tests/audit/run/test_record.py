"""A ledger of any order, place and sense gets a verdict, and what is wrong in it is named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from helpers.audited_run import judged, ledger_of

from golf_fast.audit.run import record
from golf_fast.config import RunConfig, ScoreConfig
from golf_fast.score.verdict import Facts, Records, judge


def test_a_ledger_of_no_sense_is_named(run: Path) -> None:
    for line, said in (
        ('{"event": "score", "start": -1, "stop": 2}', "start is -1"),
        ('{"event": "begin", "targets": 1e300}', "targets is 1e"),
        ('{"event": "dance"}', "the event is 'dance'"),
        ('{"event": "score", "start": 0, "stop": 2, "ranges": null}', "ranges must be a list"),
    ):
        (run / "ledger.jsonl").write_text(line + "\n")
        assert any(said in finding.said for finding in judged(run).of("ledger")), said


@pytest.mark.parametrize("strategy", ["chunked", "documents"])
def test_records_of_any_order_and_place_get_a_verdict(run: Path, strategy: str) -> None:
    """On the record itself: no replay."""
    events = [event for event in ledger_of(run) if event["event"] in ("begin", "score", "train")]
    tokens = np.arange(481, dtype=np.uint16) % 300
    draw = random.Random(1)
    for _ in range(60):
        forged = []
        for event in draw.choices(events, k=draw.randint(0, 6)):
            place = [draw.randint(0, 600), draw.randint(0, 600)]
            forged.append(
                draw.choice([event, event | {"start": place[0], "stop": place[1]}, event | {"ranges": [place]}])
            )
            if "ranges" in forged[-1]:
                forged[-1] = {name: value for name, value in forged[-1].items() if name not in ("start", "stop")}
        path = run / "ledger.jsonl"
        for event in record.checked(forged, path):
            assert record.what_line([event], 1)
        records = Records(forged)
        verdict = judge(records, Facts(finished=True, split_targets=600, window=1))
        assert "V3" in verdict.violations or "V8" in verdict.violations or "V1" in verdict.violations
        record.tokens_named(forged, tokens, path)
        record.weights_named(forged, path, "0" * 16, exact=True)
        record.documents_kept_apart(forged, tokens, 1, path, RunConfig(score=ScoreConfig(ttt=strategy)))
        for rule in verdict.violations:
            assert record.by_line(forged, rule, path, records.violations.get(rule)).outcome == "flag"
