"""Student's t against an independent computation, and the comparison of seeds."""

from __future__ import annotations

import math

import mpmath
import pytest

from golf_fast.statistics import Sample, compare, critical, incomplete_beta, mean_interval, seeds_needed, upper_tail


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0, 7.5, 60.0])
@pytest.mark.parametrize("b", [0.5, 3.0])
@pytest.mark.parametrize("x", [1e-9, 0.02, 0.3, 0.5, 0.9, 0.999])
def test_the_incomplete_beta_function_is_right(a: float, b: float, x: float) -> None:
    with mpmath.workdps(40):
        exact = float(mpmath.betainc(a, b, 0, x, regularized=True))
    assert incomplete_beta(a, b, x) == pytest.approx(exact, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("freedom", [1.0, 2.0, 2.17, 4.0, 30.0])
@pytest.mark.parametrize("t", [-3.0, -0.1, 0.0, 0.5, 2.92, 11.8, 60.0])
def test_the_tail_is_an_integral_of_the_density(freedom: float, t: float) -> None:
    with mpmath.workdps(30):
        n = mpmath.mpf(freedom)
        scale = mpmath.gamma((n + 1) / 2) / mpmath.sqrt(n * mpmath.pi) / mpmath.gamma(n / 2)
        body = mpmath.quad(
            lambda x: scale * (1 + x * x / n) ** (-(n + 1) / 2), [0, 1, abs(t)] if abs(t) > 1 else [0, abs(t)]
        )
        exact = float(0.5 - body if t >= 0 else 0.5 + body)
    assert upper_tail(t, freedom) == pytest.approx(exact, rel=1e-9)


def test_tabulated_critical_values() -> None:
    for p, freedom, value in ((0.05, 2, 2.920), (0.01, 2, 6.965), (0.01, 4, 3.747), (0.025, 10, 2.228)):
        assert critical(p, freedom) == pytest.approx(value, abs=5e-4)


def test_welch_against_values_worked_out_by_hand() -> None:
    # Of the two samples: means 2 and 6, variances 1 and 4, three values each: t = 4 / sqrt(5/3), 25/9 / (1/18 + 16/18).
    test = compare(Sample((1.0, 2.0, 3.0)), Sample((4.0, 6.0, 8.0)))
    assert test is not None
    assert test.lower_by == 4
    assert test.t == pytest.approx(4 / math.sqrt(5 / 3))
    assert test.freedom == pytest.approx((5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2))
    assert test.p == upper_tail(test.t, test.freedom)


def test_one_value_is_taken_as_it_is() -> None:
    test = compare(Sample((1.0, 2.0, 3.0)), Sample((4.0,)), margin=0.5)
    assert test is not None
    assert (test.t, test.freedom) == (pytest.approx(1.5 * math.sqrt(3)), 2.0)
    assert compare(Sample((1.0,)), Sample((2.0,))) is None
    same = compare(Sample((1.0, 1.0)), Sample((1.0,)))
    assert same is not None
    assert same.p == 0.5


def test_the_number_of_seeds_is_the_first_that_shows_it() -> None:
    ours, theirs = Sample((1.0, 1.2, 1.4)), Sample((1.5,))
    needed = seeds_needed(ours, theirs, 0.01)
    assert needed is not None
    assert ours.std is not None
    for n, shows in ((needed, True), (needed - 1, False)):
        assert (upper_tail(0.3 / (ours.std / math.sqrt(n)), n - 1) < 0.01) is shows
    assert seeds_needed(theirs, ours, 0.01) is None
    assert seeds_needed(ours, Sample((1.1,)), 0.01) is None


def test_an_interval_holds_the_mean_of_three() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.302652729749462 / math.sqrt(3), rel=1e-9)
    assert mean_interval([1.5]).half_width is None
