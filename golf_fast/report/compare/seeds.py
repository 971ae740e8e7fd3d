"""Runs that differ by their seed only, and how sure a difference between two such groups is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf_fast.statistics import Sample, compare, mean_interval

_OF_A_SEED = "seed"


@dataclass(frozen=True)
class Seeds:
    """Runs with the same settings but for the seed.

    Attributes:
        runs: their names.
        mean: mean of their bits per byte.
        half_width: half the width of the 95 % confidence interval of the mean, by Student's t; None for a single run.
        p: probability of a mean as low as this one against the first group's, if both are as good (Welch's one-sided
            test); None for the first group, and between two single runs.
    """

    runs: list[str]
    mean: float
    half_width: float | None
    p: float | None


def seeds(names: Sequence[str], settings: Sequence[Mapping[str, Any]], scores: Sequence[Any]) -> list[Seeds]:
    """The groups of runs that have a score, in their order; none where no group has two runs.

    Args:
        names: name of each run.
        settings: dotted name -> value, for each run.
        scores: bits per byte of each run; anything else where there is none.
    """
    groups: dict[str, list[int]] = {}
    for place, (held, score) in enumerate(zip(settings, scores, strict=True)):
        if not isinstance(score, float):
            continue
        same = json.dumps({name: value for name, value in held.items() if name != _OF_A_SEED}, sort_keys=True)
        groups.setdefault(same, []).append(place)
    if all(len(places) == 1 for places in groups.values()):
        return []
    values = [[float(scores[place]) for place in places] for places in groups.values()]
    found: list[Seeds] = []
    for places, mine in zip(groups.values(), values, strict=True):
        interval = mean_interval(mine)
        test = compare(Sample(tuple(mine)), Sample(tuple(values[0]))) if found else None
        p = test.p if test else None
        found.append(Seeds([names[place] for place in places], interval.mean, interval.half_width, p))
    return found
