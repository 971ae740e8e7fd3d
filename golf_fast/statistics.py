"""Student's t distribution, and confidence intervals and tests for a few runs. Importing this module is cheap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_TINY = 1e-300
_MOST_SEEDS = 10_000


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b) for a, b > 0, by Lentz's continued fraction.

    Numerical Recipes, 3rd edition, section 6.4; DLMF 8.17.22.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or _TINY)
    fraction = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d or _TINY)
            c = 1 + term / c or _TINY
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction


def upper_tail(t: float, freedom: float) -> float:
    """The probability that Student's t with `freedom` degrees of freedom exceeds `t`."""
    half = incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return half if t > 0 else 1 - half


def critical(p: float, freedom: float) -> float:
    """The value that Student's t exceeds with probability `p`, which is between 0 and a half."""
    return _solve(lambda t: upper_tail(t, freedom) <= p)


def _solve(reached: Callable[[float], bool]) -> float:
    """The least non-negative number at which a monotone condition becomes true, by bisection."""
    high = 1.0
    while not reached(high) and high < 1e12:
        high *= 2
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Interval:
    """A mean with the half width of its confidence interval, which is None for a single value."""

    mean: float
    half_width: float | None


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of values that are assumed to be normal, with the confidence interval of Student's t.

    Args:
        values: at least one value.
        level: confidence level.
    """
    given = Sample(tuple(values))
    if given.n < 2:
        return Interval(given.mean, None)
    return Interval(given.mean, critical((1 - level) / 2, given.n - 1) * math.sqrt(given.error2))


@dataclass(frozen=True)
class Sample:
    """Scores of runs that differ in the seed."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1); None for one value."""
        return stdev(self.values) if self.n > 1 else None

    @property
    def error2(self) -> float:
        """The square of the standard error of the mean; 0 for one value, which is assumed to be exact."""
        return (self.std or 0.0) ** 2 / self.n


@dataclass(frozen=True)
class Test:
    """A one-sided test of whether ours are lower than theirs by more than a margin.

    Attributes:
        lower_by: difference of the means, theirs minus ours.
        t: the test statistic; infinite if no value varies.
        freedom: degrees of freedom.
        p: p value, under the hypothesis that ours are lower by the margin only.
    """

    __test__ = False  # not one of pytest's

    lower_by: float
    t: float
    freedom: float
    p: float


def compare(ours: Sample, theirs: Sample, margin: float = 0.0) -> Test | None:
    """Welch's test; against one value a one-sample t test. None where both are single values.

    Welch, Biometrika 34, 1947: the degrees of freedom are Satterthwaite's.
    """
    a, b = ours.error2, theirs.error2
    if ours.n == theirs.n == 1:
        return None
    lower = theirs.mean - ours.mean
    freedom = float(max(ours.n - 1, theirs.n - 1))
    if ours.n > 1 and theirs.n > 1 and a + b > 0:
        freedom = (a + b) ** 2 / (a * a / (ours.n - 1) + b * b / (theirs.n - 1))
    if a + b == 0:
        t = math.copysign(math.inf, lower - margin) if lower != margin else 0.0
        return Test(lower, t, freedom, 0.5 if t == 0 else float(t < 0))
    t = (lower - margin) / math.sqrt(a + b)
    return Test(lower, t, freedom, upper_tail(t, freedom))


def seeds_needed(ours: Sample, theirs: Sample, p: float, margin: float = 0.0) -> int | None:
    """The number of seeds needed to show a difference of this size at a p value below `p`, given the observed spread.

    The same number is assumed for theirs, unless theirs is a single value. None if ours are not lower by more than the
    margin, or if the spread is unknown because there is a single seed.
    """
    lower = theirs.mean - ours.mean - margin
    if lower <= 0 or ours.std is None:
        return None
    for n in range(2, _MOST_SEEDS):
        a, b = ours.std**2 / n, (theirs.std or 0.0) ** 2 / n
        if a + b == 0 or upper_tail(lower / math.sqrt(a + b), (a + b) ** 2 * (n - 1) / (a * a + b * b)) < p:
            return n
    return None
