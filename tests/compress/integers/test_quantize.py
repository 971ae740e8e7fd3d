"""Quantization against a plain version written from seed.md section 5, one number at a time."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.compress import Quantized, Raw, dequantize, quantize
from golf_fast.compress.integers.rounding import nearest, quantize_absmax, quantize_int8, sigma_scales
from golf_fast.compress.integers.trellis import trellis_scales
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError

CONFIG = CompressConfig()
F32 = np.float32


def plain_absmax(rows: np.ndarray, bits: int, second_floor: bool = True) -> tuple[list[list[int]], list[float]]:
    limit = 2 ** (bits - 1) - 1
    values, scales = [], []
    for row in rows:
        largest = max(abs(w) for w in row)
        scale = np.float16(max(F32(largest) / F32(limit), F32(1e-12)))
        if second_floor and float(scale) < 6.103515625e-05:
            scale = np.float16(6.103515625e-05)
        scales.append(float(scale))
        values.append([max(-limit - 1, min(limit, round(float(F32(w) / F32(scale))))) for w in row])
    return values, scales


def plain_int8(rows: np.ndarray) -> tuple[list[list[int]], list[float]]:
    values, scales = [], []
    for row in rows:
        ordered = sorted(F32(abs(w)) for w in row)
        position = F32(0.9999984) * F32(len(ordered) - 1)
        below, above = ordered[int(position)], ordered[math.ceil(position)]
        # The interpolation weight is float32, and beyond one half the step is taken down from the upper neighbour.
        weight = F32(position - int(position))
        step = F32(above - below)
        clip = F32(below + weight * step) if weight < 0.5 else F32(above - step * F32(1 - weight))
        scale = max(clip / F32(127), F32(1) / F32(127))
        scales.append(float(np.float16(scale)))
        clipped = [max(-clip, min(clip, F32(w))) for w in row]
        values.append([max(-127, min(127, round(float(F32(w) / scale)))) for w in clipped])
    return values, scales


EDGE_ROWS = {
    "zeros": [[0.0, 0.0, -0.0], [1.0, 2.0, 3.0]],
    "one element": [[-0.7]],
    "negative max": [[-31.0, 30.0, 1.0], [-15.0, 14.0, 0.5]],
    "ties": [[31.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5], [15.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]],
    "below the floor": [[1e-9, -2e-9, 5e-10], [1e-4, 3e-5, -6e-5]],
    "subnormal scale before the floor": [[6e-4, -1e-3, 3e-4]],
    "scale rounds down": [[1.0001, -1.0001, 0.3], [0.33333, -0.2, 0.1]],
    "large": [[60000.0, -30000.0, 5.0]],
}


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
@pytest.mark.parametrize("rows", EDGE_ROWS.values(), ids=EDGE_ROWS.keys())
def test_absmax_edge_cases(rows: list[list[float]], bits: int) -> None:
    array = np.array(rows, np.float32)
    values, scales = quantize_absmax(torch.from_numpy(array), bits)
    assert (values.tolist(), scales.tolist()) == plain_absmax(array, bits)
    assert (values.dtype, scales.dtype) == (torch.int8, torch.float16)


@pytest.mark.parametrize("rows", EDGE_ROWS.values(), ids=EDGE_ROWS.keys())
def test_int8_edge_cases(rows: list[list[float]]) -> None:
    array = np.array(rows, np.float32)
    values, scales = quantize_int8(torch.from_numpy(array))
    assert (values.tolist(), scales.tolist()) == plain_int8(array)


@settings(max_examples=60)
@given(rows=st.integers(1, 5), cols=st.integers(1, 40), exponent=st.integers(-14, 8), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (lambda w: quantize_absmax(w, 5), lambda w: plain_absmax(w, 5)),
        (lambda w: quantize_absmax(w, 6), lambda w: plain_absmax(w, 6)),
        (quantize_int8, plain_int8),
    ],
    ids=["int5", "int6", "int8"],
)
def test_random_rows(ours: Callable, plain: Callable, rows: int, cols: int, exponent: int, seed: int) -> None:
    array = np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32) * F32(2.0**exponent)
    values, scales = ours(torch.from_numpy(array))
    assert (values.tolist(), scales.tolist()) == plain(array)


def test_int8_clips_an_outlier_of_a_long_row() -> None:
    row = torch.linspace(-1, 1, 2_000_001).repeat(1, 1) * 200
    row[0, 7] = 5000.0
    values, scales = quantize_int8(row)
    clip = np.quantile(row.abs().numpy(), 0.9999984)
    assert clip < 300
    assert scales.item() == pytest.approx(clip / 127, rel=1e-3)
    assert values[0, 7] == 127


def test_a_tensor_that_is_not_2d_has_one_scale_and_no_second_floor() -> None:
    weights = torch.tensor([[[1e-5, -5e-5], [3e-5, 2e-5]]])
    values, scales = quantize_absmax(weights, 6)
    plain_values, plain_scales = plain_absmax(weights.numpy().reshape(1, -1), 6, second_floor=False)
    assert values.shape == (1, 2, 2)
    assert values.reshape(1, -1).tolist() == plain_values
    assert scales.tolist() == plain_scales
    assert scales.item() < 6.1e-5


def test_a_scale_that_rounds_to_zero_restores_zeros() -> None:
    values, scales = quantize_absmax(torch.tensor([1e-9, 0.0, -1e-9]), 6)
    assert scales.item() == 0
    assert values.tolist() == [31, 0, -32]


def test_int8_of_zeros_not_2d_has_scale_one() -> None:
    values, scales = quantize_int8(torch.zeros(3))
    assert (values.tolist(), scales.tolist(), scales.dtype) == ([0, 0, 0], [1.0], torch.float32)


def big(*shape: int) -> torch.Tensor:
    return torch.linspace(-0.9, 1.1, math.prod(shape)).reshape(shape)


def form(stored: object) -> str:
    if isinstance(stored, Quantized):
        return f"int{stored.bits}"
    assert isinstance(stored, Raw)
    return str(stored.tensor.dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("blocks.0.mlp.steps", torch.arange(10000), "int64"),
        ("blocks.0.attn.mask", torch.zeros(10000, dtype=torch.bool), "bool"),
        ("blocks.0.mlp.fc.weight", big(64, 128), "float16"),
        ("blocks.0.mlp.fc.weight", big(64, 129), "int5"),
        ("blocks.0.attn_scale", big(8193), "float32"),
        ("blocks.0.mlp_scale", big(8192), "float16"),
        ("blocks.0.resid_mix", big(2, 5000), "float32"),
        ("skip_weights", big(5, 2000), "float32"),
        ("blocks.3.attn.q_gain", big(9000), "float32"),
        ("smear.gate", big(9000), "float32"),
        ("bigram.scale", big(9000), "float32"),
        ("backout_lambda", big(9000), "float32"),
        ("tok_emb.weight", big(100, 128), "float16"),
        ("blocks.8.attn.c_k.weight", big(100, 128), "float16"),
        ("blocks.9.attn.c_k.weight", big(100, 128), "int6"),
        ("blocks.0.attn.proj.weight", big(100, 128), "int6"),
        ("bigram.embed.weight", big(100, 128), "int6"),
        ("blocks.0.mlp.proj.weight", big(10, 10, 100), "int5"),
        ("lm_head.weight", big(100, 128), "int8"),
        ("anything.else", big(9000), "int8"),
    ],
)
def test_first_rule_that_fits(name: str, tensor: torch.Tensor, expected: str) -> None:
    stored = quantize({name: tensor}, CONFIG)[name]
    assert form(stored) == expected
    assert stored.shape == tuple(tensor.shape)


@pytest.mark.parametrize("shape", [(90, 100), (9000,), (9, 10, 100)])
@pytest.mark.parametrize("name", ["blocks.0.mlp.fc.weight", "blocks.0.attn.c_q.weight", "lm_head.weight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dequantized_is_the_product_in_float32(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    stored = quantize({name: big(*shape)}, CONFIG)[name]
    assert isinstance(stored, Quantized)
    scales = stored.scales.float()
    scales = scales[:, None] if len(shape) == 2 else scales.reshape(())
    expected = (stored.values.float() * scales).to(dtype)
    restored = dequantize({name: stored}, dtype)[name]
    assert restored.dtype == dtype
    assert torch.equal(restored, expected)


def test_integers_keep_their_dtype_when_dequantized() -> None:
    restored = dequantize(quantize({"step": torch.tensor(7), "gain": torch.tensor(0.5)}, CONFIG), torch.bfloat16)
    assert restored["step"].dtype == torch.int64
    assert restored["gain"].dtype == torch.bfloat16


def test_bfloat16_weights_are_quantized_from_their_float32_values() -> None:
    weights = big(100, 128).bfloat16()
    name = "blocks.0.attn.c_q.weight"
    low, exact = quantize({name: weights}, CONFIG)[name], quantize({name: weights.float()}, CONFIG)[name]
    assert isinstance(low, Quantized)
    assert isinstance(exact, Quantized)
    assert torch.equal(low.values, exact.values)


def test_bits_follow_the_config() -> None:
    config = CompressConfig(mlp_bits=6, attention_bits=5, fp16_keep=(), fp16_max_elements=0)
    stored = quantize({"a.mlp.w": big(3, 3), "a.attn.w": big(3, 3), "tok_emb": big(3, 3), "x": torch.ones(())}, config)
    assert [form(item) for item in stored.values()] == ["int6", "int5", "int8", "int8"]


@pytest.mark.parametrize("quantizer", ["absmax", "sigma", "trellis"])
def test_gptq_is_not_asked_without_it(quantizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A built file comes without what its recipe does not use."""
    monkeypatch.setattr("golf_fast.compress.integers.quantize.gptq_values", None)
    config = replace(CompressConfig(), quantizer=quantizer)
    name = "blocks.0.mlp.fc.weight"
    assert isinstance(quantize({name: torch.randn(64, 1024)}, config, {name: torch.eye(1024)})[name], Quantized)


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("blocks.0.mlp.fc.weight", big(100, 128).index_fill(0, torch.tensor([1]), torch.nan), "nan at element 128"),
        ("q_gain", torch.tensor([1.0, -torch.inf]), "-inf at element 1"),
        ("q_gain", torch.tensor([1.0, 70000.0]), "70000"),
        ("blocks.0.attn.c_q.weight", big(100, 128) * 1e8, "float16"),
        ("x", torch.ones(2, dtype=torch.complex64), "complex64"),
    ],
)
def test_what_cannot_be_stored_is_named(name: str, tensor: torch.Tensor, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        quantize({name: tensor}, CONFIG)
    assert name in str(caught.value)


def quantize_sigma(weights: torch.Tensor, bits: int, clip: float) -> tuple[torch.Tensor, torch.Tensor]:
    scales = sigma_scales(weights, bits, clip)
    return nearest(weights, scales, bits, symmetric=True), scales


@pytest.mark.parametrize("bits", [5, 6, 7])
@pytest.mark.parametrize("clip", [1.0, 3.3, 12.85])
@pytest.mark.parametrize("rows", EDGE_ROWS.values(), ids=EDGE_ROWS.keys())
def test_sigma_edge_cases(rows: list[list[float]], clip: float, bits: int) -> None:
    limit = 2 ** (bits - 1) - 1
    values, scales = quantize_sigma(torch.tensor(rows), bits, clip)
    for row, integers_, scale in zip(rows, values.tolist(), scales, strict=True):
        rms = math.sqrt(sum(float(F32(w)) ** 2 for w in row) / len(row))
        assert scale.item() == max(float(np.float16(rms * (clip / limit))), 6.103515625e-05)
        divided = [float(F32(w) / F32(scale.item())) for w in row]
        assert integers_ == [max(-limit, min(limit, round(each))) for each in divided]


def test_sigma_is_for_what_absmax_was_for() -> None:
    config = CompressConfig(quantizer="sigma", clip_sigma=12.0)
    state = {"a.mlp.w": big(100, 128), "a.attn.w": big(100, 128), "head": big(100, 128), "tok_emb": big(100, 128)}
    stored = quantize(state, config)
    assert [form(item) for item in stored.values()] == ["int5", "int6", "int8", "float16"]
    for name, width in (("a.mlp.w", 5), ("a.attn.w", 6), ("head", 8)):
        quantized = stored[name]
        assert isinstance(quantized, Quantized)
        assert torch.equal(quantized.values, quantize_sigma(state[name], width, 12.0)[0])


@pytest.mark.parametrize("quantizer", ["sigma", "trellis"])
def test_a_group_may_have_a_clip_of_its_own(quantizer: Literal["sigma", "trellis"]) -> None:
    """Each group as if all had its clip."""
    config = CompressConfig(
        quantizer=quantizer, clip_sigma=12.0, attention_clip_sigma=5.0, embedding_clip_sigma=20.0, mlp_bits=6
    )
    state = {"a.mlp.w": big(100, 128), "a.attn.w": big(100, 128), "bigram.w": big(100, 128), "head": big(100, 128)}
    groups = {"a.mlp.w": "mlp", "a.attn.w": "attention", "bigram.w": "bigram", "head": "embedding"}
    stored = quantize(state, config, groups=groups)
    for name, clip in zip(state, (12.0, 5.0, 12.0, 20.0), strict=True):
        one = replace(config, clip_sigma=clip, attention_clip_sigma=None, embedding_clip_sigma=None)
        own, alike = stored[name], quantize(state, one, groups=groups)[name]
        assert isinstance(own, Quantized)
        assert isinstance(alike, Quantized)
        assert torch.equal(own.scales, alike.scales)
        assert torch.equal(own.values, alike.values)


def test_the_bits_of_a_sigma_clip() -> None:
    """Gaussian rows at a clip of k sigmas have log2(4.13 c / k) bits, which is what the clip is a dial for."""
    weights = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0))
    values, _ = quantize_sigma(weights, 6, 12.85)
    _, counts = values.unique(return_counts=True)
    share = counts.double() / counts.sum()
    assert -(share * share.log2()).sum().item() == pytest.approx(math.log2(4.1327 * 31 / 12.85), abs=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_quantizes_and_restores_what_a_cpu_does() -> None:
    state = {
        "blocks.0.mlp.fc.weight": torch.randn(96, 200),
        "blocks.0.attn.c_q.weight": torch.randn(130, 90),
        "head.weight": torch.randn(100, 120),
        "smear.gate": torch.randn(64),
    }
    stored = quantize(state, CompressConfig())
    for dtype in (torch.float32, torch.bfloat16):
        here, there = dequantize(stored, dtype), dequantize(stored, dtype, "cuda")
        for name, tensor in here.items():
            assert there[name].is_cuda
            assert torch.equal(there[name].cpu(), tensor), name
    from_gpu = dequantize(quantize({name: tensor.cuda() for name, tensor in state.items()}, CompressConfig()))
    for name, tensor in dequantize(stored).items():
        assert torch.equal(from_gpu[name], tensor), name


def test_a_trellis_clips_nothing_and_its_rows_lose_equal_shares() -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(600, 80)) * np.exp(random.normal(size=(600, 1)))
    weights[::7, 3] *= 40  # outliers far beyond 127 steps
    state_dict = {"blocks.0.attn.c_q.weight": torch.from_numpy(weights).float()}
    config = CompressConfig(quantizer="trellis", clip_sigma=4.0, fp16_max_elements=100)
    held = quantize(state_dict, config)["blocks.0.attn.c_q.weight"]
    assert isinstance(held, Quantized)
    assert held.bits == 8
    assert held.scales.dtype == torch.float16
    assert -128 <= int(held.values.min()) < -100
    plain = sigma_scales(state_dict["blocks.0.attn.c_q.weight"], 6, 2.0)
    assert (held.scales >= plain).all()
    assert ((held.scales == plain).double().mean()) > 0.7
    error = state_dict["blocks.0.attn.c_q.weight"] - dequantize({"x": held})["x"]
    shares = (error / held.scales.float()[:, None]).square().mean(dim=1)
    assert float(error.abs().max() / held.scales.float().max()) < 2.5
    assert shares.mean() == pytest.approx(0.26, abs=0.01)
    large = plain > plain.median()
    assert shares[large].mean() == pytest.approx(float(shares[~large].mean()), rel=0.05)


@pytest.mark.parametrize("mantissa_bits", [0, 3, 10])
def test_coarse_scales_of_a_trellis_still_clip_nothing(mantissa_bits: int) -> None:
    weights = torch.randn(300, 50, generator=torch.Generator().manual_seed(0)).square().square()
    scales = trellis_scales(weights, 8, 1.0, mantissa_bits)
    assert (weights.abs().amax(dim=1) <= 124 * scales.float()).all()
    assert (scales.view(torch.int16) & ((1 << 10 - mantissa_bits) - 1) == 0).all()


def test_a_tensor_that_is_no_matrix_follows_a_trellis_of_one_row() -> None:
    weights = torch.randn(3, 50, 70, generator=torch.Generator().manual_seed(0))
    held = quantize({"blocks.0.mlp.odd": weights}, CompressConfig(quantizer="trellis"))["blocks.0.mlp.odd"]
    assert isinstance(held, Quantized)
    assert held.scales.shape == (1,)
    assert not (held.values & 1).any()
    assert (weights - dequantize({"x": held})["x"]).abs().max() < 1.1 * float(held.scales)
