"""The comparison at equal bytes."""

from dataclasses import replace

import pytest

from benchmarks.mechanisms import CLIPS, MECHANISMS, SETTINGS, Curve
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError


def test_every_mechanism_makes_settings_of_its_own_at_every_clip() -> None:
    config = replace(CompressConfig(), quantizer="gptq", calibration_tokens=1, **SETTINGS)
    for clip in CLIPS:
        ways = [replace(config, clip_sigma=clip, **settings(clip)) for settings in MECHANISMS.values()]
        assert len({replace(config, clip_sigma=clip), *ways}) == 1 + len(ways)


def test_a_loss_is_compared_with_the_curve_at_its_own_bytes() -> None:
    sizes = (80_000, 90_000, 100_000, 120_000)
    curve = Curve([(size, 1e9 / size**2) for size in sizes])
    assert curve.at(95_000) == pytest.approx(1e9 / 95_000**2)
    better = [(95_000, 1e9 / 95_000**2 - 1e-3), (85_000, 1e9 / 85_000**2 - 3e-3)]
    assert curve.compared(better)[2:] == ["-0.00200", "0.00141"]
    assert curve.compared(better)[0] == "95,000 to 85,000"


def test_a_model_that_loses_nothing_says_so() -> None:
    with pytest.raises(InputError, match="train one for longer"):
        Curve([(1000, 0.1), (900, 0.0), (800, 0.1)])
