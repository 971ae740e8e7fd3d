"""linear_residual beyond the samples of the registry: every launch configuration, extremes, single results, errors."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import GuardBand, require_close

from golf_fast.ops import linear_residual
from golf_fast.ops.launch import architecture, launches
from golf_fast.ops.linear_residual import reference
from golf_fast.ops.linear_residual.cases import random_arguments

pytest.importorskip("triton")

from golf_fast.ops.gemm import Tiles
from golf_fast.ops.linear_residual import triton as kernels

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, where the extremes overflow
interpreter = pytest.mark.interpreter
CPU = torch.device("cpu")
# warps and stages are nothing to the interpreter
CONFIGURATIONS = {
    f"{tiles.rows}x{tiles.columns}x{tiles.depth} {'TMA' if tiles.tma else 'pointers'}": tiles
    for choices in kernels.TILES.values()
    for tiles in choices
}


def arguments(rows: int = 70, width: int = 64, features: int = 128) -> tuple[torch.Tensor, ...]:
    return random_arguments((rows,), width, features, CPU, torch.float32, 0)


def check_configuration(tiles: Tiles, device: str, dtype: torch.dtype) -> None:
    """Both outputs are right, and nothing is written around them."""
    # Seven blocks of 64 rows, the last one partial, for three programs; 320 columns are no multiple of any tile.
    tokens, width, features = 420, 128, 320
    x, w, residual = random_arguments((tokens,), width, features, torch.device(device), dtype, 1)
    exact = residual.double() + x.double() @ w.double().T
    out, rstd = GuardBand((tokens, features), dtype, device), GuardBand((tokens,), torch.float32, device)
    kernels.launch(x, w, residual, out.tensor, rstd.tensor, tiles, 3)()
    rounding = 1e-5 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(out.tensor.double(), exact, rtol=rounding, atol=rounding * float(exact.abs().max()))
    factor = (exact.square().mean(-1) + reference.EPS).rsqrt()
    torch.testing.assert_close(rstd.tensor.double(), factor, rtol=1e-5, atol=0)
    out.check()
    rstd.check()


@interpreter
@pytest.mark.parametrize("tiles", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_each_configuration_writes_its_outputs_and_nothing_else(tiles: Tiles) -> None:
    check_configuration(tiles, "cpu", torch.float32)


@pytest.mark.gpu
def test_each_configuration_of_this_gpu() -> None:
    for tiles in kernels.TILES[architecture(torch.device("cuda", 0))]:
        check_configuration(tiles, "cuda", torch.bfloat16)


def test_heuristic_returns_only_what_is_compiled_and_uses_each() -> None:
    for arch, choices in kernels.TILES.items():
        found = {
            kernels.choose_tiles(arch, tokens, features, programs)
            for tokens in (1, 64, 2048, 4096, 8192, 98304, 1 << 20)
            for features in (64, 128, 512, 8192)
            for programs in (1, 3, 40, 132)
        }
        assert found == set(choices)


def test_seed_shape_uses_the_largest_tile() -> None:
    assert kernels.choose_tiles(90, 98304, 512, 132) == Tiles(128, 256, 64, 8, 3, tma=True)


@interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e4, 0.0])
def test_extreme_values_stay_in_their_row(value: float, use_triton) -> None:
    x, w, residual = arguments()
    x[3], residual[3] = 0.0, 0.0
    residual[3, 5] = value
    ours, plain = (f(x, w, residual) for f in (linear_residual, reference.linear_residual))
    for found, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-4)
    others = [0, 1, 2, *range(4, 70)]
    assert bool(ours[0][others].isfinite().all())
    assert bool(ours[1][others].isfinite().all())


@interpreter
@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)], ids=["out", "rstd", "both"])
def test_gradients_when_one_result_or_both_are_used(used: tuple[int, ...], use_triton) -> None:
    """`sum` and a transpose besides: gradients that are expanded or strided are taken."""
    found = []
    for function in (linear_residual, reference.linear_residual):
        leaves = [t.clone().requires_grad_() for t in arguments()]
        results = function(*leaves)
        scales = torch.linspace(0.5, 1, 70)
        torch.autograd.backward(sum(torch.tensordot(scales, results[i], 1).sum() for i in used))
        found.append([leaf.grad for leaf in leaves])
    for ours, plain in zip(*found, strict=True):
        require_close(ours, plain, plain * (1 + 1e-6), "gradient")


@interpreter
def test_slices_of_a_batch_are_taken(use_triton) -> None:
    """Scoring computes the last positions of each row alone."""
    x, w, residual = random_arguments((2, 9), 64, 128, CPU, torch.float32, 0)
    whole = reference.linear_residual(x, w, residual)
    part = linear_residual(x[:, 6:], w, residual[:, 6:])
    assert part[0].shape == (2, 3, 128)
    for found, expected in zip(part, whole, strict=True):
        require_close(found, expected[:, 6:], expected[:, 6:] * (1 + 1e-6), "slice")


@interpreter
def test_no_tokens(use_triton) -> None:
    w = torch.ones(128, 64, requires_grad=True)
    out, rstd = linear_residual(torch.empty(2, 0, 64), w, torch.empty(2, 0, 128))
    (out.sum() + rstd.sum()).backward()
    assert (out.shape, rstd.shape) == ((2, 0, 128), (2, 0))
    assert torch.equal(w.grad, torch.zeros(128, 64))
    assert not launches


@interpreter
def test_saves_what_the_backward_needs_alone(use_triton) -> None:
    saved: list[torch.Size] = []
    leaves = [t.requires_grad_() for t in arguments()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        linear_residual(*leaves)
    assert sorted(map(tuple, saved)) == [(70,), (70, 64), (70, 128), (128, 64)]


@interpreter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": torch.zeros(128, 32)}, r"w is \(128, 32\); it must be \[D, K\], with the K of x, which is \(70, 64\)"),
        ({"residual": torch.zeros(70, 64)}, r"residual is \(70, 64\); it must be \(70, 128\)"),
        ({"residual": torch.zeros(70, 128).half()}, r"residual is torch.float16; .* the dtype of x, torch.float32"),
        ({"w": torch.zeros(64, 128).T}, r"w has strides \(1, 128\); it must be contiguous"),
        (
            {"w": torch.zeros(96, 64), "residual": torch.zeros(70, 96)},
            r"w is \(96, 64\); .* of multiples of 64; GOLF_F",
        ),
        ({name: torch.zeros(64, 64).double() for name in ("x", "w", "residual")}, r"x is torch.float64; it must be"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, torch.Tensor], message: str, use_triton) -> None:
    given = dict(zip(("x", "w", "residual"), arguments(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        linear_residual(**given)
    assert not launches


@interpreter
def test_one_row_has_any_stride(use_triton) -> None:
    """A matrix of one row is contiguous whatever its first stride, and TMA takes multiples of 16 bytes only."""
    x, w, residual = arguments()
    odd = x[:1].as_strided((1, x.shape[1]), (1, 1))
    assert odd.is_contiguous()
    out, rstd = linear_residual(odd, w, residual[:1])
    expected = reference.linear_residual(x[:1], w, residual[:1])
    torch.testing.assert_close((out, rstd), expected)
