"""Bits and clips on random weights, at a size that takes no time."""

from dataclasses import replace

import pytest
import torch

from benchmarks import size
from golf_fast.errors import InputError
from golf_fast.model import GPT, upstream
from golf_fast.recipes import RECIPES


def test_a_random_model_is_fitted_with_its_code() -> None:
    config = RECIPES["tiny_top"]()
    model = replace(
        config.model, vocab_size=128, dim=32, heads=2, kv_heads=1, smear_window=12, attention_gate_window=12
    )
    compress = replace(
        config.compress, quantizer="gptq", clip_sigma=24.0, attention_clip_sigma=32.0, target_bytes=40_000
    )
    compress = replace(compress, fp16_max_elements=512)
    made, used = size.fitted(replace(config, model=model, compress=compress), code_bytes=2000)
    assert 38_000 - 8192 <= made <= 38_000
    assert used.quantizer == "gptq"
    assert used.clip_of("attention") == pytest.approx(used.clip_sigma * 32 / 24, abs=1e-4)


def test_weights_are_like_trained_ones() -> None:
    """Nothing is constant, and the rows of a matrix are of different size."""
    config = replace(RECIPES["tiny_top"]().model, vocab_size=128, dim=32, heads=2, kv_heads=1)
    initial, made = upstream.export(GPT(config, seed=0)), size.trained_like(config)
    assert {name: tensor.shape for name, tensor in made.items()} == {n: tensor.shape for n, tensor in initial.items()}
    for name, tensor in made.items():
        assert tensor.numel() == 1 or tensor.std() > 1e-3, name
    rows = made["tok_emb.weight"].square().mean(dim=1).log().mul(0.5)
    assert 0.2 < float(rows.std()) < 0.45
    hessians = size.inputs(made)
    assert set(hessians) >= {name for name in made if ".mlp." in name or "tok_emb" in name}
    assert float(torch.linalg.eigvalsh(hessians["tok_emb.weight"].double()).min()) == pytest.approx(1 / 32, rel=1e-3)


def test_an_unknown_recipe() -> None:
    with pytest.raises(InputError, match="RECIPE is nothing"):
        size.main(["nothing"])
