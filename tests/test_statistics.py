"""Against values of tables, and against what a sum over the density gives."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_fast.statistics import is_below, mean_interval, t_below, t_quantile


@pytest.mark.parametrize(
    ("t", "degrees", "below"),
    [
        (2.5, 3, 0.9561466764959672),
        (-4.2, 7.5, 0.0017300409064761602),
        (0, 5, 0.5),
        (1, 1, 0.75),
        (1.96, 1e6, 0.975002),
    ],
)
def test_the_distribution_is_that_of_the_tables(t: float, degrees: float, below: float) -> None:
    assert t_below(t, degrees) == pytest.approx(below, rel=1e-6)


@pytest.mark.parametrize(
    ("probability", "degrees", "t"),
    [(0.975, 2, 4.302652729749462), (0.99, 4.4, 3.5655626209660096), (0.25, 1, -1.0), (0.5, 9, 0.0)],
)
def test_quantiles_are_those_of_the_tables(probability: float, degrees: float, t: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(t, rel=1e-9, abs=1e-9)


@given(t=st.floats(-30, 30), degrees=st.floats(0.5, 500))
def test_the_distribution_is_the_integral_of_its_density(t: float, degrees: float) -> None:
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    steps = 2000
    width = abs(t) / steps
    heights = [(1 + (width * (i + 0.5)) ** 2 / degrees) ** (-(degrees + 1) / 2) for i in range(steps)]
    half = scale * width * sum(heights)
    assert t_below(t, degrees) == pytest.approx(0.5 + math.copysign(half, t), abs=1e-4)


def test_an_interval_holds_the_mean_of_three() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.302652729749462 / math.sqrt(3), rel=1e-9)
    assert mean_interval([1.5]).half_width is None


def test_welch_and_a_single_value() -> None:
    ours, theirs = [1.1574, 1.1580, 1.1569], [1.161, 1.1625]
    found = is_below(ours, theirs)
    assert (found.t, found.degrees, found.p) == pytest.approx((-5.29897279, 1.36968921, 0.03547192), rel=1e-7)
    single = is_below(ours, [1.158])
    assert (single.t, single.degrees, single.p) == pytest.approx((-1.78208422, 2, 0.10834067), rel=1e-7)
    assert is_below([1.158], ours).p == pytest.approx(1 - single.p, rel=1e-9)


def test_values_without_chance() -> None:
    assert is_below([1.0, 1.0], [2.0]).p == 0
    assert is_below([2.0, 2.0], [1.0, 1.0]).p == 1
    assert is_below([1.0, 1.0], [1.0]).p == 1


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [2.0]), ([], [1.0, 2.0]), ([1.0, 2.0], [])])
def test_too_few_values_are_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(ours)} and {len(theirs)} values"):
        is_below(ours, theirs)
