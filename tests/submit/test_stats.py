"""Runs and values, compared by the program."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.left_behind import RESULT, SIZES, STARTS, TARGETS, TEXTS, leave

from golf_fast.errors import InputError
from golf_fast.runs import RunPaths
from golf_fast.submit import stats


def test_runs_and_values_stand_beside_each_other(runs: list[Path]) -> None:
    ours = stats.read([*map(str, runs), "3.5"])
    assert ours.sample.n == 3
    assert ours.bytes_per_token is not None
    found = stats.report(ours, stats.read(["4.0"]))
    assert found["lower_by_bpb"] == pytest.approx(4.0 - ours.sample.mean)
    assert found["lower_by_nats"] == pytest.approx(found["lower_by_bpb"] * math.log(2) * ours.bytes_per_token)
    assert [test["margin_nats"] for test in found["tests"]] == [0.0, 0.005]
    assert "seeds would show it at p < 0.01" in "\n".join(stats.lines(found))


@pytest.mark.parametrize(("ours", "says"), [("1.1", "lower by 0.10000 bits"), ("1.3", "higher by 0.10000 bits")])
def test_which_side_is_better_is_said_in_a_word(ours: str, says: str) -> None:
    found = stats.report(stats.read([ours]), stats.read(["1.2"]), 2.4)
    assert found["lower_by_bpb"] == pytest.approx(1.2 - float(ours))
    (said,) = (line for line in stats.lines(found) if line.startswith(says))
    assert "-" not in said


@pytest.mark.parametrize("given", ["nothing", "-1", "nan", "1e9"])
def test_what_is_no_score_is_named(given: str) -> None:
    with pytest.raises(InputError, match=given):
        stats.read([given])


@pytest.fixture
def unlike(tmp_path: Path) -> list[str]:
    """A run, and one of the same text in twice the tokens, of which it scored 10 bytes less."""
    changes = [
        {},
        {
            "tokens_sha256": "0",
            "targets": 2 * TARGETS,
            "starts": [2 * start for start in STARTS],
            "bytes": [*SIZES[:3], SIZES[3] - 10],
            "texts": [*TEXTS[:3], "cut"],
            "shown": {},
        },
    ]
    results = [RESULT, replace(RESULT, val_bpb=1.2, val_tokens=2 * TARGETS, val_bytes=sum(SIZES) - 10)]
    runs = [leave(tmp_path / name, held) for name, held in zip(("one", "two"), results, strict=True)]
    for run, change in zip(runs, changes, strict=True):
        path = RunPaths(run).documents
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return [str(run) for run in runs]


def test_runs_of_one_text_in_other_tokens_stand_beside_each_other(unlike: list[str]) -> None:
    """The margin of a record is in nats a token of ours, and of each run's own tokens are its nats."""
    one, two = unlike
    rates = [sum(SIZES) / TARGETS, (sum(SIZES) - 10) / (2 * TARGETS)]
    found = stats.report(stats.read([two]), stats.read([one]))
    assert found["lower_by_bpb"] == pytest.approx(0.03456)
    assert found["lower_by_nats"] == pytest.approx(0.03456 * math.log(2) * rates[1])
    assert found["ours"]["mean_nats"] == pytest.approx(1.2 * math.log(2) * rates[1])
    assert found["theirs"]["mean_nats"] == pytest.approx(1.23456 * math.log(2) * rates[0])
    assert found["tests"][1]["margin_bpb"] == pytest.approx(0.005 / math.log(2) / rates[1])
    (note,) = found["notes"]
    assert "two: the same text in other tokens (6,000 against 12,000), 15,300 against 15,290 bytes of it scored" in note
    assert "; 3 of 4 documents, 11,300 bytes are in both, the last being cut" in note
    assert note in stats.lines(found)
    assert "nats a token of ours" in "\n".join(stats.lines(found))


def test_of_unlike_tokens_in_one_group_no_nats_are_told_and_the_margin_is_the_strictest(unlike: list[str]) -> None:
    found = stats.report(stats.read(unlike), stats.read(["1.5"]))
    assert found["ours"]["mean_bpb"] == pytest.approx((1.23456 + 1.2) / 2)
    assert found["ours"]["mean_nats"] is None
    assert found["bytes_per_token"] == (sum(SIZES) - 10) / (2 * TARGETS)


def test_another_text_is_refused(unlike: list[str]) -> None:
    path = RunPaths(Path(unlike[1])).documents
    path.write_text(json.dumps(json.loads(path.read_text()) | {"texts": ["w", "x", "y", "z"]}))
    with pytest.raises(InputError, match=r"two: was scored on another text than .*one, as far as is known: 0 of 3"):
        stats.report(stats.read([unlike[0]]), stats.read([unlike[1]]))


def test_what_no_documents_tell_is_refused(unlike: list[str]) -> None:
    RunPaths(Path(unlike[0])).documents.unlink()
    with pytest.raises(
        InputError, match=r"other tokens than .*one \(12,000, not 6,000\), and .*one recorded no"
    ) as error:
        stats.report(stats.read(unlike), None)
    assert "\n" not in str(error.value)
    same = [unlike[0], str(leave(Path(unlike[0]).parent / "again"))]
    assert stats.report(stats.read(same), None)["notes"] == [], "equal counts of an earlier version are taken for it"
