from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from golf_fast.compress import Fitted, Fitter, Quantized, dequantize, quantize, read_artifact, write_artifact
from golf_fast.compress.artifact.container import encode
from golf_fast.compress.fit_size import SLACK
from golf_fast.compress.integers.low_rank import output_error
from golf_fast.compress.integers.zeroing import ones_and_minus_ones
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


def fit(
    weights: dict[str, torch.Tensor],
    model_config: dict[str, Any],
    config: CompressConfig,
    code_bytes: int = 0,
    hessians: dict[str, torch.Tensor] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Fitted:
    return Fitter(weights, model_config, code_bytes, hessians, progress=progress).fit(config)


def sigma(target: int, **settings: Any) -> CompressConfig:
    return CompressConfig(**{"quantizer": "sigma", "codec": "rans", "target_bytes": target, **settings})


WEIGHTS = 3 * 512 * 768


@pytest.mark.parametrize("bits", [2.6, 3.3, 3.9, 4.6])
@pytest.mark.parametrize("start", [1.0, 8.0, 900.0])
def test_fills_the_target_by_what_is_written(bits: float, start: float, tmp_path: Path) -> None:
    code = 12_345
    target = int(WEIGHTS * bits / 8) + code
    found = fit(state_dict(), {"dim": 8}, sigma(target, clip_sigma=start), code)
    size = write_artifact(tmp_path / "a", found.tensors, {"dim": 8}, **found.config.coding())
    assert size == found.size
    assert target - SLACK <= size + code <= target
    assert found.trials < 12
    assert read_artifact(tmp_path / "a").header.compress["clip_sigma"] == found.config.clip_sigma


def test_a_large_target_is_met_with_more_bits() -> None:
    """int5 alone could fill it only by clipping a lot."""
    target = int(WEIGHTS * 4.6 / 8)
    found = fit(state_dict(), {}, sigma(target))
    assert (found.config.mlp_bits, found.config.attention_bits) == (6, 7)
    assert found.config.clip_sigma > 4


@pytest.mark.parametrize("quantizer", ["sigma", "trellis"])
def test_clips_of_groups_move_by_one_factor(quantizer: str) -> None:
    own = {"clip_sigma": 11.5, "attention_clip_sigma": 13.0, "embedding_clip_sigma": 14.0}
    target = int(WEIGHTS * 3.3 / 8)
    found = fit(state_dict(), {}, sigma(target, quantizer=quantizer, mlp_bits=6, **own))
    assert target - SLACK <= found.size <= target
    factor = found.config.clip_sigma / 11.5
    assert factor != 1
    for name, clip in own.items():
        assert getattr(found.config, name) == pytest.approx(clip * factor, abs=1e-4)
        assert found.config.notes()[name] == getattr(found.config, name)


def test_the_same_again() -> None:
    first, second = (fit(state_dict(), {}, sigma(450_000)) for _ in range(2))
    assert (first.size, first.config, first.trials) == (second.size, second.config, second.trials)


def test_a_target_that_no_artifact_fills() -> None:
    found = fit(state_dict(), {}, sigma(10**7))
    assert found.size < 10**7
    assert found.config.clip_sigma == 2


def test_a_target_that_is_too_small_leaves_the_smallest_there_is() -> None:
    found = fit(state_dict(), {}, sigma(30_000), 9_000)
    assert found.size > 21_000
    assert found.config.clip_sigma == 64
    assert found.zeroed == ones_and_minus_ones(quantize(state_dict(), found.config)) > 0


def test_zeros_come_last() -> None:
    """Where the clip is no dial or has come to its end."""
    for config in (sigma(0, clip_sigma=64.0), CompressConfig(codec="rans")):
        whole = len(encode(quantize(state_dict(), config), {}, **config.coding()))
        none = fit(state_dict(), {}, replace(config, target_bytes=whole))
        assert (none.size, none.zeroed) == (whole, 0)
        found = fit(state_dict(), {}, replace(config, target_bytes=whole - 12_000))
        assert whole - 12_000 - SLACK <= found.size <= whole - 12_000
        assert 0 < found.zeroed < ones_and_minus_ones(quantize(state_dict(), config))


def test_gptq_fills_the_target_too() -> None:
    weights = state_dict()
    inputs = torch.randn(512, 768, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 1, 768)
    hessians = {name: inputs.T @ inputs for name in weights if "blocks" in name}
    config = CompressConfig(quantizer="gptq", calibration_tokens=1, codec="rans", target_bytes=450_000)
    found = fit(weights, {}, config, hessians=hessians)
    assert 450_000 - SLACK <= found.size <= 450_000
    assert found.config.quantizer == "gptq"
    again = quantize(weights, found.config, hessians)
    assert len(encode(again, {}, **found.config.coding())) == found.size
    nearest = quantize(weights, replace(found.config, quantizer="sigma"), hessians)
    errors = [
        sum(output_error(weights[name], dequantize(tensors)[name], hessians[name]) for name in hessians)
        for tensors in (again, nearest)
    ]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("bits", [0.6, 1.5, 3.3, 4.6])
@pytest.mark.parametrize("start", [1.0, 900.0])
def test_a_trellis_fills_the_target_by_its_step_only(bits: float, start: float) -> None:
    target = int(WEIGHTS * bits / 8)
    found = fit(state_dict(), {}, sigma(target, quantizer="trellis", clip_sigma=start))
    assert target - SLACK <= found.size <= target
    assert (found.config.mlp_bits, found.zeroed) == (5, 0)
    assert found.trials < 14
    held = found.tensors["blocks.0.mlp.fc.weight"]
    assert isinstance(held, Quantized)
    assert held.bits == 8


def test_gptq_on_a_trellis_fills_the_target() -> None:
    weights = state_dict()
    inputs = torch.randn(512, 768, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 1, 768)
    hessians = {name: inputs.T @ inputs for name in weights if "blocks" in name}
    config = CompressConfig(quantizer="gptq_trellis", calibration_tokens=1, target_bytes=450_000)
    lines: list[str] = []
    found = fit(weights, {}, config, hessians=hessians, progress=lines.append)
    assert 450_000 - SLACK <= found.size <= 450_000
    assert found.config.quantizer == "gptq_trellis"
    assert "from trellis to gptq_trellis" in lines
    uniform = fit(weights, {}, replace(config, quantizer="gptq"), hessians=hessians)
    errors = [
        sum(output_error(weights[name], dequantize(each.tensors)[name], hessians[name]) for name in hessians)
        for each in (found, uniform)
    ]
    assert errors[0] < 0.85 * errors[1]  # 0.8 is a decibel


def test_progress_tells_every_trial() -> None:
    lines: list[str] = []
    found = fit(state_dict(), {}, sigma(450_000), progress=lines.append)
    assert len(lines) == found.trials
    assert f"artifact:{found.size} " in lines[-1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target_bytes": -1, "quantizer": "sigma"}, "target_bytes"),
        ({"quantizer": "lloyd"}, "absmax, sigma, gptq, trellis or gptq_trellis"),
        ({"trellis_states": 16}, "trellis_states is 16: it must be 4 or 8"),
        ({"trellis_rate": -0.5}, "trellis_rate is -0.5"),
        ({"quantizer": "gptq_trellis"}, "calibration_tokens is 0: it must be more than 0 where"),
        ({"quantizer": "gptq"}, "calibration_tokens is 0: it must be more than 0 where"),
        ({"low_rank": 2}, "calibration_tokens is 0"),
        ({"mlp_bits": 4}, "mlp_bits is 4: it must be from 5 to 8"),
        ({"scale_mantissa_bits": 11}, "scale_mantissa_bits is 11"),
        ({"calibration_seconds": -1.0}, "calibration_seconds is -1"),
        ({"quantizer": "sigma", "clip_sigma": 0.5}, "clip_sigma is 0.5"),
        ({"codec": "other"}, "one of rans, zstd"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        CompressConfig(**settings)
