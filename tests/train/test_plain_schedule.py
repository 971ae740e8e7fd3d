"""The rates and the momentum of a step, by hand, in the plain training and in the trainer."""

import pytest
from oracle import plain_training
from oracle.plain_training import Settings

from golf_fast.config import TrainConfig
from golf_fast.train.schedule import lr_factor, muon_momentum

# (steps done, seconds, limit, step limit, warm-down steps) -> factor, worked out by hand from the formula.
GOLDEN = [
    ((0, 0.0, 600.0, 20000, 3000), 1.0),  # nothing is known of the length of a step
    ((0, 0.5, 600.0, 20000, 3000), 600.0 / 1500 - 0.5 / 1500),  # max(step, 1): half a second is taken for one step
    ((1, 0.1, 600.0, 20000, 3000), 1.0),
    ((1, 0.1, 150.1, 20000, 3000), 150.0 / 300),  # fewer steps fit than the warm-down has: it starts at once
    ((3000, 300.0, 600.0, 20000, 3000), 1.0),  # exactly the warm-down is left: both sides of the condition give 1
    ((3001, 300.1, 600.0, 20000, 3000), 299.9 / 300),
    ((5999, 599.9, 600.0, 20000, 3000), 0.1 / 300),
    ((6000, 600.0, 600.0, 20000, 3000), 0.0),
    ((6001, 600.1, 600.0, 20000, 3000), 0.0),  # the limit is passed
    ((19999, 10.0, 600.0, 20000, 3000), 1.0),  # under a clock the step limit plays no part
    ((100, 599.0, 600.0, 20000, 0), 1.0),
    ((700, 700.0, 600.0, 20000, 0), 1.0),
    ((19000, 1e9, 0.0, 20000, 0), 1.0),
    ((0, 0.0, 0.0, 20000, 3000), 1.0),
    ((16999, 1e9, 0.0, 20000, 3000), 1.0),
    ((17000, 1e9, 0.0, 20000, 3000), 1.0),
    ((17001, 1e9, 0.0, 20000, 3000), 2999 / 3000),
    ((19999, 1e9, 0.0, 20000, 3000), 1 / 3000),
    ((0, 0.0, 0.0, 30, 3000), 30 / 3000),  # fewer steps than the warm-down
    ((29, 3.0, 0.0, 30, 3000), 1 / 3000),
]


@pytest.mark.parametrize(("case", "expected"), GOLDEN)
def test_factor(case, expected):
    step, elapsed, limit, max_steps, warmdown = case
    settings = Settings(max_seconds=limit, max_steps=max_steps, warmdown_steps=warmdown)
    assert plain_training.lr_factor(step, elapsed, settings) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert lr_factor(elapsed, step, limit, max_steps, warmdown) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("step", [0, 1, 750, 1499, 1500, 1501, 10**6])
def test_momentum(step):
    expected = 0.92 + 0.07 * min(step / 1500, 1)
    assert muon_momentum(step, TrainConfig()) == pytest.approx(expected, rel=1e-12)
    assert plain_training.momentum_of(step, Settings()) == pytest.approx(expected, rel=1e-12)
