"""GPTQ against a plain version written from the paper's equations, and against what it is for."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from golf_fast.compress import dequantize, quantize, trellis_quantize
from golf_fast.compress.artifact import rans
from golf_fast.compress.integers import trellis_numpy
from golf_fast.compress.integers.gptq import BLOCK, DAMPING, round_columns
from golf_fast.compress.integers.low_rank import output_error
from golf_fast.compress.integers.rounding import nearest
from golf_fast.compress.integers.trellis import Trellis
from golf_fast.compress.stored import Quantized
from golf_fast.config import CompressConfig
from golf_fast.distributed import Ranks


def inputs(count: int, cols: int, seed: int = 0) -> torch.Tensor:
    """Inputs that are correlated and of unequal size, as a network's are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(cols, cols, generator=generator, dtype=torch.float64) * torch.linspace(0.1, 2, cols)
    return torch.randn(count, cols, generator=generator, dtype=torch.float64) @ mix


def case(n: int, rows: int, cols: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(n, rows, cols, generator=generator)
    seen = [inputs(4 * cols, cols, seed + i) for i in range(n)]
    return weights, weights.square().mean(2).sqrt() / 3, torch.stack([(x.T @ x).float() for x in seen])


def plain(weights: torch.Tensor, scales: torch.Tensor, hessian: torch.Tensor, limit: int) -> torch.Tensor:
    """One column at a time, the inverse Hessian of the columns that are left made anew for each (section 3.1)."""
    w = weights.double().clone()
    h = hessian.double() + DAMPING * hessian.double().diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    left = hessian.diagonal().argsort(descending=True, stable=True).tolist()
    q = torch.zeros_like(w)
    while left:
        inverse = torch.linalg.inv(h[left][:, left])
        first = left[0]
        q[:, first] = (w[:, first] / scales.double()).round().clamp(-limit, limit)
        error = (w[:, first] - q[:, first] * scales.double()) / inverse[0, 0]
        w[:, left] -= error[:, None] * inverse[0][None, :]
        left = left[1:]
    return q.to(torch.int8)


@pytest.mark.parametrize(("n", "rows", "cols"), [(1, 5, 1), (3, 7, 24), (2, 4, BLOCK + 9)])
@pytest.mark.parametrize("limit", [3, 31])
def test_against_the_plain_version(n: int, rows: int, cols: int, limit: int) -> None:
    weights, scales, hessian = case(n, rows, cols)
    found = round_columns(weights, scales, hessian, -limit, limit)
    expected = torch.stack([plain(w, s, h, limit) for w, s, h in zip(weights, scales, hessian, strict=True)])
    # A value near a half may fall to the other side in float32, and its row then goes another way from there on.
    same = (found == expected).all(dim=2).double().mean()
    assert same >= 0.9


def test_outputs_are_nearer_than_those_of_the_nearest_integers() -> None:
    weights, scales, hessian = case(2, 40, 64)
    by_gptq = weights - round_columns(weights, scales, hessian, -31, 31).float() * scales[:, :, None]
    plain_values = (weights / scales[:, :, None]).round().clamp(-31, 31)
    by_nearest = weights - plain_values * scales[:, :, None]
    errors = [((e @ hessian) * e).sum() for e in (by_gptq, by_nearest)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("states", [4, 8])
def test_columns_follow_the_trellis_and_outputs_are_nearer(states: int) -> None:
    """At half the step, which costs an entropy coder as many bits, a decibel less error of the outputs."""
    weights, scales, hessian = case(2, 400, 64)
    found = round_columns(weights, scales / 2, hessian, -31, 31, Trellis(states, 0.0))
    uniform = round_columns(weights, scales, hessian, -31, 31)
    for each in range(2):
        following = torch.from_numpy(trellis_numpy.next_states(states))
        state = torch.zeros(64, dtype=torch.int64)
        for row in found[each].long():
            assert not ((row ^ state) & 1).any()
            state = following[state, row >> 1 & 1]
    errors = [weights - values.float() * step[:, :, None] for values, step in ((found, scales / 2), (uniform, scales))]
    by_trellis, by_nearest = (((error @ hessian) * error).sum() for error in errors)
    assert by_trellis < (0.85 if states == 4 else 0.83) * by_nearest


def test_a_trellis_under_independent_inputs_is_the_trellis_alone() -> None:
    weights, scales, _ = case(2, 30, 20)
    diagonal = torch.diag_embed(torch.rand(2, 20, generator=torch.Generator().manual_seed(1)) + 0.1)
    found = round_columns(weights, scales, diagonal, -31, 31, Trellis(8, 0.5))
    for each in range(2):
        assert torch.equal(found[each], trellis_quantize(weights[each], scales[each], 8, 0.5))


def test_independent_inputs_leave_the_nearest_integers() -> None:
    weights, scales, _ = case(2, 6, 50)
    diagonal = torch.diag_embed(torch.rand(2, 50, generator=torch.Generator().manual_seed(1)) + 0.1)
    found = round_columns(weights, scales, diagonal, -31, 31)
    assert torch.equal(found, (weights / scales[:, :, None]).round().clamp(-31, 31).to(torch.int8))


def test_inputs_that_were_never_seen() -> None:
    weights, scales, hessian = case(1, 6, 30)
    hessian[:, 4] = hessian[:, :, 4] = 0
    found = round_columns(weights, scales, hessian, -31, 31)
    assert torch.equal(found[0, :, 4], (weights[0, :, 4] / scales[0]).round().clamp(-31, 31).to(torch.int8))
    nothing = round_columns(weights, scales, torch.zeros_like(hessian), -31, 31)
    assert torch.equal(nothing, (weights / scales[:, :, None]).round().clamp(-31, 31).to(torch.int8))


def test_a_hessian_that_is_none() -> None:
    weights, scales, hessian = case(1, 6, 30)
    for bad in (torch.full_like(hessian, torch.nan), -hessian):
        with pytest.raises(ValueError, match="hessian: "):
            round_columns(weights, scales, bad, -31, 31)


NAMES = [f"blocks.{layer}.{matrix}.weight" for layer in range(3) for matrix in ("attn.c_q", "mlp.fc")]


def model() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    weights = {name: torch.randn(96, 64, generator=generator) for name in NAMES}
    seen = {name: inputs(256, 64, position) for position, name in enumerate(NAMES)}
    return weights, {name: (x.T @ x).float() for name, x in seen.items()}


CONFIG = CompressConfig(quantizer="gptq", calibration_tokens=1, fp16_max_elements=100, clip_sigma=10)


def test_only_matrices_with_a_hessian_take_part() -> None:
    weights, hessians = model()
    weights["blocks.7.mlp.fc.weight"] = weights[NAMES[1]]
    stored = quantize(weights, CONFIG, hessians)
    for name, matrix in weights.items():
        held = stored[name]
        assert isinstance(held, Quantized)
        plain_values = nearest(matrix, held.scales, held.bits, symmetric=True)
        assert torch.equal(held.values, plain_values) == (name not in hessians)


def test_gptq_on_a_trellis_by_the_settings() -> None:
    weights, hessians = model()
    config = dataclasses.replace(CONFIG, quantizer="gptq_trellis")
    both = [quantize(weights, each, hessians) for each in (config, config.uncalibrated())]
    errors = []
    for stored in both:
        for name, held in stored.items():
            assert isinstance(held, Quantized)
            assert held.bits == 8
            assert rans.encode(held.values, 8)[0] & 15 == 5, name
        kept = dequantize(stored)
        errors.append(sum(output_error(weights[name], kept[name], hessians[name]) for name in weights))
    assert errors[0] < 0.6 * errors[1]


def _work(folder: Path) -> None:
    ranks = Ranks.from_environment("cpu")
    stored = quantize(*(model()[0], CONFIG, model()[1]), ranks=ranks)
    found = {name: held.values for name, held in stored.items() if isinstance(held, Quantized)}
    torch.save(found, folder / f"{ranks.world_size}-{ranks.rank}.pt")
    ranks.close()


def test_ranks_share_the_matrices(run_ranks: Callable[..., None], tmp_path: Path) -> None:
    """Three matrices of each width over two ranks: the shares are unequal."""
    run_ranks(__file__, 2, tmp_path)
    weights, hessians = model()
    alone = quantize(weights, CONFIG, hessians)
    for rank in range(2):
        found = torch.load(tmp_path / f"2-{rank}.pt", weights_only=True)
        for name in NAMES:
            held = alone[name]
            assert isinstance(held, Quantized)
            assert (found[name] == held.values).double().mean() > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_as_on_a_cpu() -> None:
    weights, hessians = model()
    here = quantize(weights, CONFIG, hessians)
    there = quantize(weights, CONFIG, {name: hessian.cuda() for name, hessian in hessians.items()})
    for name in NAMES:
        mine, others = here[name], there[name]
        assert isinstance(mine, Quantized)
        assert isinstance(others, Quantized)
        assert (mine.values == others.values).double().mean() > 0.95


if __name__ == "__main__":
    torch.set_num_threads(1)
    _work(Path(sys.argv[1]))
