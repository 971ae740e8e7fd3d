"""Runs and values, compared by the program."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from golf_fast.errors import InputError
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


@pytest.mark.parametrize("given", ["nothing", "-1", "nan", "1e9"])
def test_what_is_no_score_is_named(given: str) -> None:
    with pytest.raises(InputError, match=given):
        stats.read([given])
