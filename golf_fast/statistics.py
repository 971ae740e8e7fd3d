"""Student's t distribution, and what is read off a few runs with it. Importing this module imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

_STEPS = 400
"""More than the continued fraction needs for any number of degrees of freedom up to a million."""


def t_below(t: float, degrees: float) -> float:
    """The probability that a variable with Student's t distribution is at most `t`.

    Args:
        degrees: of freedom, above 0; a fraction is allowed.
    """
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    tail = _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2
    return 1 - tail if t > 0 else tail


def t_quantile(probability: float, degrees: float) -> float:
    """The value that a variable with Student's t distribution is below with this probability, which is in (0, 1)."""
    assert 0 < probability < 1, probability
    if probability <= 0.5:
        return 0.0 if probability == 0.5 else -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while t_below(high, degrees) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_below(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Interval:
    """A mean and how far the true one may be from it; `half_width` is None where there is a single value."""

    mean: float
    half_width: float | None


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of values that are taken to be normal, with the confidence interval of Student's t.

    Args:
        values: at least one.
        level: share of such intervals that hold the true mean.
    """
    if len(values) < 2:
        return Interval(fmean(values), None)
    error = math.sqrt(variance(values) / len(values))
    return Interval(fmean(values), t_quantile((1 + level) / 2, len(values) - 1) * error)


@dataclass(frozen=True)
class Test:
    """A test statistic, its degrees of freedom, and the probability of one as small if the means are equal."""

    __test__ = False  # not one of pytest's

    t: float
    degrees: float
    p: float


def is_below(ours: Sequence[float], theirs: Sequence[float]) -> Test:
    """A one-sided test of whether the mean of `ours` is below that of `theirs`: Welch's, of unequal variances.

    Where one side is a single value it is taken as exact (a one-sample test).

    Args:
        ours, theirs: values that are taken to be normal; two or more on one side at least.

    Raises:
        ValueError: there is a single value on both sides, or none on one.
    """
    if not ours or not theirs or len(ours) == len(theirs) == 1:
        raise ValueError(f"{len(ours)} and {len(theirs)} values: two or more on one side are needed, one on the other")
    shares = [variance(values) / len(values) if len(values) > 1 else 0.0 for values in (ours, theirs)]
    difference = fmean(ours) - fmean(theirs)
    total = sum(shares)
    if total == 0:  # equal values: nothing is left to chance
        return Test(math.copysign(math.inf, difference) if difference else 0.0, 1.0, float(difference >= 0))
    degrees = total**2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (ours, theirs), strict=True) if share
    )
    t = difference / math.sqrt(total)
    return Test(t, degrees, t_below(t, degrees))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (DLMF 8.17.22, Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, _STEPS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _apart(1 + factor * d, tiny)
            c = _apart(1 + factor / c, tiny)
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * value


def _apart(x: float, tiny: float) -> float:
    """`x`, but away from 0."""
    return x if abs(x) > tiny else tiny
