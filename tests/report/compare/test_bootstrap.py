"""The interval of a difference in bits per byte."""

import math
import time

import numpy as np
import pytest

from golf_fast.report.compare.bootstrap import differences


def runs_of(documents: int, seed: int = 0, effect: float = 0.001) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes, and the nats of two runs of which the second is better by `effect` nats a byte, with noise."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(100, 9000, documents)
    first = 0.7 * sizes + 30 * rng.normal(size=documents)
    return sizes, first, first - effect * sizes + 20 * rng.normal(size=documents)


@pytest.mark.parametrize("documents", [30, 500])
def test_it_agrees_with_drawing_documents_one_by_one(documents: int) -> None:
    sizes, first, second = runs_of(documents)
    (found,) = differences(["a", "b"], [first, second], sizes)
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, documents, (20_000, documents))
    values = (second - first)[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) / math.log(2)
    assert found.bpb == pytest.approx((second - first).sum() / sizes.sum() / math.log(2), rel=1e-12)
    assert found.error == pytest.approx(values.std(), rel=0.05)
    low, high = np.quantile(values, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.1 * values.std())
    assert found.high == pytest.approx(high, abs=0.1 * values.std())


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    truth = -0.001 / math.log(2)
    held = [
        found.low <= truth <= found.high
        for seed in range(200)
        for sizes, first, second in [runs_of(100, seed)]
        for found in differences(["a", "b"], [first, second], sizes, resamples=1000)
        if found.low is not None and found.high is not None
    ]
    assert len(held) == 200
    assert 0.89 <= sum(held) / 200 <= 0.99


def test_pairs_tell_more_than_runs_by_themselves() -> None:
    """What both runs find hard does not blur the difference."""
    sizes, first, second = runs_of(500)
    shared = 500 * np.random.default_rng(3).normal(size=500)
    (plain,) = differences(["a", "b"], [first, second], sizes)
    (harder,) = differences(["a", "b"], [first + shared, second + shared], sizes)
    assert harder.low == pytest.approx(plain.low, rel=1e-6)
    assert plain.sure


def test_equal_runs_differ_by_nothing() -> None:
    sizes, first, _ = runs_of(50)
    (found,) = differences(["a", "b"], [first, first], sizes)
    assert (found.bpb, found.low, found.high, found.error, found.better) == (0, 0, 0, 0, 0)
    assert not found.sure


def test_equal_arguments_give_equal_numbers_and_another_run_changes_none() -> None:
    sizes, first, second = runs_of(200)
    one = differences(["a", "b"], [first, second], sizes)
    two = differences(["a", "b", "c"], [first, second, first + 1], sizes)
    assert one == differences(["a", "b"], [first, second], sizes)
    assert two[0].low == pytest.approx(one[0].low, rel=1e-5)
    assert one != differences(["a", "b"], [first, second], sizes, seed=1)


def test_one_document_has_no_interval() -> None:
    (found,) = differences(["a", "b"], [np.array([2.0]), np.array([1.0])], np.array([10]))
    assert found.bpb == pytest.approx(-0.1 / math.log(2))
    assert (found.low, found.high, found.error, found.better, found.sure) == (None, None, None, None, False)


def test_documents_without_bytes_do_not_end_it() -> None:
    (found,) = differences(["a", "b"], [np.zeros(3), np.array([1.0, 0.0, 1.0])], np.array([0, 0, 10]))
    assert found.low is not None
    assert math.isfinite(found.low)


def test_fifty_thousand_documents_take_two_seconds() -> None:
    sizes, first, second = runs_of(50_000)
    began = time.process_time()  # of this process: other work on the machine does not count
    differences(["a", "b"], [first, second], sizes)
    assert time.process_time() - began < 2
