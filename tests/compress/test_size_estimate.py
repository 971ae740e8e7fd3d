"""The prediction against what is written."""

from typing import Literal

import pytest
import torch

from golf_fast.compress import quantize
from golf_fast.compress.artifact.container import encode
from golf_fast.compress.size_estimate import expected_bytes
from golf_fast.config import CompressConfig


def model(spread: float = 0.3) -> dict[str, torch.Tensor]:
    """Gaussian rows whose sizes are log-normal."""
    generator = torch.Generator().manual_seed(0)

    def rows(count: int, cols: int, sigma: float) -> torch.Tensor:
        sizes = torch.exp(spread * torch.randn(count, 1, generator=generator))
        return torch.randn(count, cols, generator=generator) * sizes * sigma

    return {
        "tok_emb.weight": rows(600, 200, 0.3),
        "blocks.0.attn.c_q.weight": rows(512, 256, 0.05),
        "blocks.0.mlp.fc.weight": rows(700, 256, 0.02),
        "bigram.embed.weight": rows(900, 128, 0.01),
        "lm_head.weight": rows(300, 256, 0.4),
        "blocks.0.attn_scale": torch.rand(256, generator=generator),
        "blocks.0.mlp_scale": torch.rand(9000, generator=generator),
        "steps": torch.arange(10),
        "none": torch.zeros(0, 4),
    }


@pytest.mark.parametrize(
    "config",
    [
        CompressConfig(codec="rans"),
        CompressConfig(codec="rans", mlp_bits=6, fp16_keep=()),
        CompressConfig(codec="rans", quantizer="sigma", clip_sigma=5, mlp_bits=7, fp16_keep=()),
        CompressConfig(codec="rans", quantizer="sigma", clip_sigma=30, scale_mantissa_bits=3, embedding_bits=7),
        CompressConfig(codec="rans", quantizer="sigma", clip_sigma=300),
        CompressConfig(quantizer="sigma", clip_sigma=8, attention_clip_sigma=40, embedding_clip_sigma=3, fp16_keep=()),
        CompressConfig(quantizer="trellis", clip_sigma=6, fp16_keep=()),
        CompressConfig(quantizer="trellis", clip_sigma=12, mlp_bits=6, embedding_bits=7, fp16_keep=()),
        CompressConfig(quantizer="trellis", clip_sigma=30, trellis_rate=1.0, fp16_keep=()),
    ],
    ids=[
        "seed",
        "int6",
        "fine",
        "coarse",
        "nearly zeros",
        "clips by group",
        "fine trellis",
        "trellis",
        "coarse trellis, rate",
    ],
)
def test_within_two_percent_of_the_file(config: CompressConfig) -> None:
    weights = model()
    size = len(encode(quantize(weights, config), {}, **config.coding()))
    assert expected_bytes(weights, config) == pytest.approx(size, rel=0.02)


def test_rows_of_zeros_cost_next_to_nothing() -> None:
    config = CompressConfig(codec="rans")
    weights = {"blocks.0.mlp.fc.weight": torch.zeros(512, 512)}
    assert expected_bytes(weights, config) < 1500
    assert expected_bytes({}, config) < 1000


def test_bfloat16_tables_are_taken_as_they_are() -> None:
    config = CompressConfig(codec="rans")
    weights = model()
    low = {**weights, "tok_emb.weight": weights["tok_emb.weight"].bfloat16()}
    assert expected_bytes(low, config) == pytest.approx(expected_bytes(weights, config), rel=1e-3)


@pytest.mark.parametrize("quantizer", ["sigma", "trellis"])
def test_rows_that_are_alike_cost_their_differences(quantizer: Literal["sigma", "trellis"]) -> None:
    config = CompressConfig(quantizer=quantizer, embedding_bits=7, fp16_keep=())
    weights = model()
    alike = weights["tok_emb.weight"]
    before = expected_bytes(weights, config)
    alike[100:300] = alike[0] + 0.1 * alike[100:300]
    size = len(encode(quantize(weights, config), {}, **config.coding()))
    assert expected_bytes(weights, config) == pytest.approx(size, rel=0.02)
    assert size < 0.975 * before
