"""The correction as published, against the formulas in NumPy and float64."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from golf_fast.compress import Quantized, dequantize, quantize, read_artifact, write_artifact
from golf_fast.compress.artifact.codecs import Malformed
from golf_fast.compress.artifact.container import decode, encode
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError

SHAPES = {"blocks.0.mlp.fc.weight": (96, 128), "blocks.0.attn.c_q.weight": (80, 48), "tok_emb.weight": (120, 96)}
CONFIG = CompressConfig(
    quantizer="sigma", clip_sigma=40, fp16_max_elements=0, fp16_keep=(),
    low_rank=3, low_rank_tensors=2, low_rank_error="weights", low_rank_group=32,
)  # fmt: skip


def weights() -> dict[str, torch.Tensor]:
    """Rows with something in common, whose error a few ranks take away."""
    generator = torch.Generator().manual_seed(0)

    def one(rows: int, cols: int) -> torch.Tensor:
        shared = torch.randn(rows, 2, generator=generator) @ torch.randn(2, cols, generator=generator)
        return shared + 0.3 * torch.randn(rows, cols, generator=generator)

    return {name: one(*shape) for name, shape in SHAPES.items()}


def published(error: np.ndarray, rank: int, group: int) -> np.ndarray:
    """The product of the rounded factors, as the script has it, but for the sign of each pair."""
    u, s, vt = np.linalg.svd(error, full_matrices=False)
    a, b = u[:, :rank] * s[:rank], vt[:rank]
    for k in range(rank):
        if a[np.abs(a[:, k]).argmax(), k] > 0:
            a[:, k], b[k] = -a[:, k], -b[k]
    one = float(np.float16(np.abs(a).max() / 1.5))
    left = np.clip(np.round(a / one), -2, 1) * one
    right = b.reshape(-1, group)
    scales = np.float16(np.abs(right).max(1) / 7.5).astype(float)[:, None]
    return left @ (np.clip(np.round(right / scales), -8, 7) * scales).reshape(b.shape)


def test_the_largest_errors_get_what_was_published() -> None:
    state = weights()
    plain = dequantize(quantize(state, dataclasses.replace(CONFIG, low_rank=0)), torch.float64)
    stored = quantize(state, CONFIG)
    restored = dequantize(stored, torch.float64)
    errors = {name: (state[name].double() - plain[name]).numpy() for name in state}
    worst = sorted(state, key=lambda name: -np.square(errors[name]).sum())[:2]
    assert {name for name in stored if ":" in name} == {name + end for name in worst for end in (":left", ":right")}
    for name in state:
        group = math.gcd(32, SHAPES[name][1])
        added = published(errors[name], 3, group) if name in worst else np.zeros(SHAPES[name])
        np.testing.assert_allclose((restored[name] - plain[name]).numpy(), added, rtol=1e-9, atol=1e-12)
        if name in worst:
            left, right = stored[f"{name}:left"], stored[f"{name}:right"]
            assert isinstance(left, Quantized)
            assert isinstance(right, Quantized)
            assert (left.bits, right.bits) == (2, 4)
            assert left.scales.unique().numel() == 1
            assert right.shape == (3 * SHAPES[name][1] // group, group)
            assert np.square(errors[name] - added).sum() < np.square(errors[name]).sum()


def test_it_reads_no_training_tokens() -> None:
    assert not CONFIG.calibrated
    gptq = dataclasses.replace(CONFIG, quantizer="gptq", calibration_tokens=1)
    assert gptq.uncalibrated() == dataclasses.replace(gptq, quantizer="sigma")
    with pytest.raises(InputError, match="calibration_tokens is 0"):
        dataclasses.replace(CONFIG, low_rank_error="outputs")
    for wrong, says in ({"low_rank_error": "both"}, "outputs or weights"), ({"low_rank_group": 0}, "more than 0"):
        with pytest.raises(InputError, match=says):
            dataclasses.replace(CONFIG, **wrong)  # type: ignore[arg-type]


def test_a_matrix_without_error_and_a_width_that_is_no_multiple() -> None:
    generator = torch.Generator().manual_seed(1)
    integers = torch.randint(-127, 128, (40, 90), generator=generator).float()
    integers[:, 0] = 127  # the largest magnitude of each row, so that its scale is 1
    config = dataclasses.replace(CONFIG, quantizer="absmax", mlp_bits=8, low_rank=99)
    stored = quantize({"a": integers}, config, groups={"a": "mlp"})
    assert "a:right" in stored
    assert torch.equal(dequantize(stored)["a"], integers)
    right = quantize({"a": torch.randn(40, 90, generator=generator)}, config, groups={"a": "mlp"})["a:right"]
    assert right.shape == (40 * 45, 2)


def test_through_a_file(tmp_path: Path) -> None:
    stored = quantize(weights(), CONFIG)
    write_artifact(tmp_path / "a", stored, {}, **CONFIG.coding())
    held = read_artifact(tmp_path / "a").tensors
    for name, tensor in dequantize(stored).items():
        assert torch.equal(dequantize(held)[name], tensor)


def int8(*shape: int) -> Quantized:
    return Quantized(torch.ones(shape, dtype=torch.int8), torch.ones(shape[0], dtype=torch.float16), 8)


@pytest.mark.parametrize("shape", [(6, 2), (4, 3), (2, 6), (12, 1)])
def test_pieces_of_rows_are_read(shape: tuple[int, int]) -> None:
    tensors = {"w": int8(8, 6), "w:left": int8(2, 8), "w:right": int8(*shape)}
    held = decode(encode(tensors, {}, **CONFIG.coding())).tensors
    assert held["w:right"].shape == shape
    assert torch.equal(dequantize(held)["w"], torch.full((8, 6), 3.0))


@pytest.mark.parametrize("shape", [(3, 4), (1, 12), (6, 3), (5, 2), (6, 2, 1), (12,)])
def test_pieces_that_are_none_are_refused(shape: tuple[int, ...]) -> None:
    """Of two rows of six: pieces across rows, too many, too few, other shapes."""
    values = torch.ones(shape, dtype=torch.int8)
    scales = torch.ones(shape[0] if len(shape) == 2 else 1, dtype=torch.float16)
    tensors = {"w": int8(8, 6), "w:left": int8(2, 8), "w:right": Quantized(values, scales, 8)}
    with pytest.raises(Malformed, match="the factors of"):
        encode(tensors, {}, **CONFIG.coding())
