import dataclasses
from pathlib import Path

import pytest
import torch

from golf_fast.compress import Quantized, dequantize, quantize, read_artifact, stored, write_artifact
from golf_fast.compress.artifact.codecs import Malformed
from golf_fast.compress.artifact.container import decode, encode
from golf_fast.compress.integers.low_rank import output_error
from golf_fast.compress.stored import Raw, Stored, restore
from golf_fast.config import CompressConfig

NAMES = [f"blocks.{layer}.mlp.fc.weight" for layer in range(4)]
CONFIG = CompressConfig(quantizer="sigma", clip_sigma=40, calibration_tokens=1, low_rank=3, low_rank_tensors=2)


def model() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Two of the four matrices have rows that a coarse scale does badly by."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(96, 128, generator=generator) for name in NAMES}
    for name in NAMES[1:3]:
        weights[name][:, ::2] *= 0.05
    inputs = torch.randn(512, 128, generator=generator) * torch.linspace(0.2, 2, 128)
    return weights, dict.fromkeys(NAMES, inputs.T @ inputs)


def test_the_worst_matrices_get_one_and_are_better_for_it() -> None:
    weights, hessians = model()
    plain = quantize(weights, dataclasses.replace(CONFIG, low_rank=0), hessians)
    stored = quantize(weights, CONFIG, hessians)
    errors = {name: output_error(weights[name], dequantize(plain)[name], hessians[name]) for name in NAMES}
    worst = sorted(NAMES, key=lambda name: -errors[name])[:2]
    assert set(stored) - set(plain) == {name + suffix for name in worst for suffix in (":left", ":right")}
    restored = dequantize(stored)
    assert set(restored) == set(weights)
    for name in NAMES:
        after = output_error(weights[name], restored[name], hessians[name])
        if name in worst:
            assert after < 0.97 * errors[name]
        else:
            assert after == errors[name]


def test_it_takes_away_nearly_what_the_best_of_its_rank_would() -> None:
    """By Eckart and Young, of the error whitened by the inputs."""
    weights, hessians = model()
    config = dataclasses.replace(CONFIG, low_rank_tensors=4)
    plain, restored = (
        dequantize(quantize(weights, c, hessians)) for c in (dataclasses.replace(config, low_rank=0), config)
    )
    for name in NAMES:
        root = torch.linalg.cholesky(hessians[name].double())
        spectrum = torch.linalg.svdvals((weights[name] - plain[name]).double() @ root).square()
        left = ((weights[name] - restored[name]).double() @ root).square().sum()
        assert spectrum[3:].sum() * (1 - 1e-9) <= left <= spectrum[3:].sum() * 1.02


def test_a_model_without_hessians_gets_none() -> None:
    weights, _ = model()
    assert set(quantize(weights, CONFIG)) == set(NAMES)


def test_through_a_file(tmp_path: Path) -> None:
    weights, hessians = model()
    stored = quantize(weights, CONFIG, hessians)
    write_artifact(tmp_path / "a", stored, {}, **CONFIG.coding())
    held = read_artifact(tmp_path / "a").tensors
    for name, tensor in dequantize(stored).items():
        assert torch.equal(dequantize(held)[name], tensor)


def int8(*shape: int) -> Quantized:
    return Quantized(torch.ones(shape, dtype=torch.int8), torch.ones(shape[0], dtype=torch.float16), 8)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"w:left": None}, "factors of"),
        ({"w:right": None}, "factors of"),
        ({"w": None}, "name with a colon"),
        ({"w": Raw(torch.ones(8, 6))}, "name with a colon"),
        ({"w:left": int8(2, 7)}, "factors of"),
        ({"w:right": int8(3, 6)}, "factors of"),
        ({"w:left": Quantized(torch.ones(16, dtype=torch.int8), torch.ones(1, dtype=torch.float16), 8)}, "factors of"),
        ({"w:left": Raw(torch.ones(2, 8))}, "factors of"),
        ({"w:left": int8(7, 8), "w:right": int8(7, 6)}, r"has rank 7; a matrix of \[8, 6\] has at most 6"),
        ({"w:middle": int8(2, 8)}, "name with a colon"),
        ({":left": int8(2, 8)}, "name with a colon"),
        ({"w:left:left": int8(2, 8)}, "name with a colon"),
    ],
)
def test_factors_that_fit_nothing_are_refused(changes: dict[str, Stored | None], says: str) -> None:
    fine: dict[str, Stored | None] = {"w": int8(8, 6), "w:left": int8(2, 8), "w:right": int8(2, 6)}
    tensors = {name: stored for name, stored in {**fine, **changes}.items() if stored is not None}
    with pytest.raises(Malformed, match=says):
        encode(tensors, {}, **CONFIG.coding())
    whole = {name: stored for name, stored in fine.items() if stored is not None}
    assert set(decode(encode(whole, {}, **CONFIG.coding())).tensors) == set(whole)


def test_a_large_matrix_is_corrected_in_pieces_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    parts = {"m": (40, 24), "m:left": (3, 40), "m:right": (3, 24)}
    tensors = {
        name: Quantized(torch.randint(-8, 8, shape, generator=generator).to(torch.int8), torch.rand(shape[0]).half(), 8)
        for name, shape in parts.items()
    }
    whole = dequantize(tensors)["m"]
    left, right = (restore(tensors[name], torch.float64) for name in ("m:left", "m:right"))
    assert torch.equal(whole, (restore(tensors["m"], torch.float64) + left.T @ right).float())
    for at_once in (1, 100, 24 * 39):
        monkeypatch.setattr(stored, "CORRECTED_AT_ONCE", at_once)
        torch.testing.assert_close(dequantize(tensors)["m"], whole, rtol=1e-6, atol=0)
