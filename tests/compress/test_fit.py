from pathlib import Path
from typing import Any

import pytest
import torch

from golf_fast.compress import fit, read_artifact, write_artifact
from golf_fast.compress.fit import SLACK
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError


def state_dict(rows: int = 512, cols: int = 768) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "blocks.0.attn.c_q.weight": torch.randn(rows, cols, generator=generator) * 0.02,
        "blocks.0.mlp.fc.weight": torch.randn(2 * rows, cols, generator=generator) * 0.02,
        "tok_emb.weight": torch.randn(256, 64, generator=generator),
        "q_gain": torch.ones(8),
    }


def sigma(target: int, **settings: Any) -> CompressConfig:
    return CompressConfig(quantizer="sigma", codec="rans", target_bytes=target, **settings)


WEIGHTS = 3 * 512 * 768


@pytest.mark.parametrize("bits", [2.6, 3.3, 3.9, 4.6])
@pytest.mark.parametrize("start", [1.0, 8.0, 900.0])
def test_fills_the_target_by_what_is_written(bits: float, start: float, tmp_path: Path) -> None:
    code = 12_345
    target = int(WEIGHTS * bits / 8) + code
    found = fit(state_dict(), {"dim": 8}, sigma(target, clip_sigma=start), code)
    size = write_artifact(tmp_path / "a", found.tensors, {"dim": 8}, found.config)
    assert size == found.size
    assert target - SLACK <= size + code <= target
    assert found.trials < 12
    assert read_artifact(tmp_path / "a").header.compress["clip_sigma"] == found.config.clip_sigma


def test_a_large_target_is_met_with_more_bits() -> None:
    """int5 alone could fill it only by clipping a lot."""
    target = int(WEIGHTS * 4.6 / 8)
    found = fit(state_dict(), {}, sigma(target))
    assert (found.config.mlp_bits, found.config.attention_bits) == (6, 6)
    assert found.config.clip_sigma > 4


def test_the_same_again() -> None:
    first, second = (fit(state_dict(), {}, sigma(450_000)) for _ in range(2))
    assert (first.size, first.config, first.trials) == (second.size, second.config, second.trials)


def test_a_target_that_no_artifact_fills() -> None:
    found = fit(state_dict(), {}, sigma(10**7))
    assert found.size < 10**7
    assert found.config.clip_sigma == 2


def test_a_target_that_is_too_small_says_what_would_do() -> None:
    with pytest.raises(
        InputError, match=r"target_bytes is 50000: 9000 bytes of code leave 41000 .* set it to \d+ or more"
    ):
        fit(state_dict(), {}, sigma(50_000), 9_000)
    with pytest.raises(InputError, match="leave -5"):
        fit(state_dict(), {}, sigma(5), 10)


def test_progress_tells_every_trial() -> None:
    lines: list[str] = []
    found = fit(state_dict(), {}, sigma(450_000), progress=lines.append)
    assert len(lines) == found.trials
    assert f"artifact:{found.size} " in lines[-1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target_bytes": 1000}, "target_bytes is 1000: it must be 0 unless"),
        ({"target_bytes": -1, "quantizer": "sigma"}, "target_bytes"),
        ({"quantizer": "gptq"}, "absmax or sigma"),
        ({"quantizer": "sigma", "clip_sigma": 0.5}, "clip_sigma is 0.5"),
        ({"codec": "lzma"}, "one of rans, zstd, brotli"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        CompressConfig(**settings)
