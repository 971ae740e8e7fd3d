"""newton_schulz beyond the samples of the registry: the product kernel and both sets of coefficients."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from helpers.numerics import GuardBand

from golf_fast.ops import FlatBanks, newton_schulz
from golf_fast.ops.newton_schulz import flat_banks, operators, reference

TRITON = importlib.util.find_spec("triton") is not None
if TRITON:
    from golf_fast.ops.newton_schulz import triton as kernels

    SIDES = {f"{tiles.side}x{tiles.depth}": tiles for choices in kernels.TILES.values() for tiles in choices}
else:
    SIDES = {}


def bank(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_product(tiles: kernels.Tiles, size: int, device: str, dtype: torch.dtype) -> None:
    """The product is right, exactly symmetric, and nothing around it is written.

    The interpreter multiplies with a BLAS that may round a tile on the diagonal and its transpose differently: there
    only the mirrored tiles are held to it.
    """
    # 83 steps: no multiple of a depth
    x = bank(2, size, 83).to(device, dtype)
    add = bank(2, size, size, seed=1)
    add = (add + add.mT).to(device, dtype)
    product = 0.5 * x.double() @ x.double().mT
    rounding = 1e-4 if dtype == torch.float32 else 1e-2
    tile = torch.arange(size, device=device) // tiles.side
    mirrored = (tile[:, None] != tile[None, :]) | (device != "cpu")
    for extra, expected in ((None, product), (add, product - 3.0 * add.double())):
        out = GuardBand((2, size, size), dtype, device)
        kernels.product_launch(x, extra, 0.5, -3.0, out.tensor, tiles)()
        torch.testing.assert_close(out.tensor.double(), expected, rtol=rounding, atol=rounding)
        assert torch.equal(out.tensor * mirrored, out.tensor.mT * mirrored)
        out.check()


@pytest.mark.interpreter
@pytest.mark.parametrize("tiles", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("size", [1, 64, 130, 300])
def test_product_is_right_symmetric_and_in_bounds(tiles: kernels.Tiles, size: int) -> None:
    # 300: three or five tiles a side, the last partial
    check_product(tiles, size, "cpu", torch.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1, 64, 130, 300])
def test_product_on_a_gpu(size: int) -> None:
    for tiles in SIDES.values():
        check_product(tiles, size, "cuda", torch.bfloat16)


@pytest.mark.parametrize("coefficients", ["quintic", "polar_express"])
@pytest.mark.parametrize("at_once", [True, False])
def test_banks_in_one_tensor_are_as_each_by_itself(
    monkeypatch: pytest.MonkeyPatch, coefficients: reference.Coefficients, at_once: bool
) -> None:
    """Matrices of very different norms, one of them 0; the kernels' entry with plain products."""

    def product(x: torch.Tensor, add: torch.Tensor | None, alpha: float, beta: float) -> torch.Tensor:
        return alpha * x @ x.mT + (0 if add is None else beta * add)

    monkeypatch.setattr(flat_banks, "normalizes_together", lambda device: at_once)
    monkeypatch.setattr(operators, "symmetric_product", product)
    shapes = [(2, 12, 18), (3, 30, 12), (1, 6, 6)]
    banks = [bank(*shape, seed=i).float() * 10.0 ** (3 * i - 3) for i, shape in enumerate(shapes)]
    banks[1][1] = 0
    all_at_once = FlatBanks(shapes, 5, torch.float32, coefficients, torch.device("cpu"))
    flat = torch.cat([one.reshape(-1) for one in banks])
    for found, one in zip(all_at_once(flat), banks, strict=True):
        expected = reference.newton_schulz(one.double(), 5, torch.float64, coefficients)
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not TRITON, reason="triton is not installed")
def test_heuristic_returns_only_what_is_compiled_and_uses_each() -> None:
    for arch, choices in kernels.TILES.items():
        found = {
            kernels.choose_tiles(arch, matrices, size, 132) for matrices in (1, 10, 20) for size in (1, 128, 512, 4096)
        }
        assert found == set(choices)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (48, 160), (160, 48)])
def test_quintic_brings_singular_values_near_one(rows: int, columns: int) -> None:
    out = newton_schulz(bank(3, rows, columns), 5, torch.float64)
    values = torch.linalg.svdvals(out)
    assert float(values.median()) > 0.6
    assert float(values.max()) < 1.25


def test_polar_express_converges_to_the_polar_factor() -> None:
    x = bank(2, 40, 90)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    out = newton_schulz(x, 12, torch.float64, "polar_express")
    torch.testing.assert_close(out, u @ vh, rtol=0, atol=1e-9)


def test_polar_express_triples_are_the_best_for_their_intervals() -> None:
    """The error of an optimal odd quintic on [l, u] has four extremes of equal size and alternating sign.

    The paper's lower end is at least 0.024 of the upper one (its cushion), and what the triple does is scaled so that
    it is centred at 1 on the interval that is really left; so the alternation is that of the middle of the range.
    """
    low, high = 1e-3, 1.0
    for a, b, c in reference.POLAR_EXPRESS[:6]:
        cushioned = max(low, 0.02407327424182761 * high)
        x = np.linspace(cushioned, high, 200001)
        p = a * x + b * x**3 + c * x**5
        turning = [p[0], *p[1:-1][(p[1:-1] - p[:-2]) * (p[2:] - p[1:-1]) < 0], p[-1]]
        assert len(turning) == 4
        assert np.ptp(turning[0::2]) < 1e-6 * high
        assert np.ptp(turning[1::2]) < 1e-6 * high
        low, high = a * low + b * low**3 + c * low**5, p.max()
        assert abs((low + high) / 2 - 1) < 2e-3


def test_schedule_ends_in_the_limit() -> None:
    triples = reference.schedule("polar_express", 9)
    assert triples[7:] == [reference.POLAR_EXPRESS_LIMIT] * 2
    assert triples[0] == pytest.approx(
        (8.28721201814563 / 1.01, -23.595886519098837 / 1.01**3, 17.3003873125 / 1.01**5)
    )
    assert reference.schedule("quintic", 2) == [reference.QUINTIC] * 2


@pytest.mark.interpreter
@pytest.mark.skipif(not TRITON, reason="triton is not installed")
def test_a_zero_matrix_stays_zero_and_a_nan_stays_in_its_matrix(use_triton) -> None:
    x = bank(3, 20, 33).float()
    x[0] = 0
    x[1, 4, 5] = float("nan")
    out = newton_schulz(x, 5, torch.float32)
    assert bool((out[0] == 0).all())
    assert bool(out[1].isnan().any())
    torch.testing.assert_close(out[2], reference.newton_schulz(x[2:], 5, torch.float32)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.interpreter
@pytest.mark.skipif(not TRITON, reason="triton is not installed")
def test_wrong_arguments_are_named(use_triton) -> None:
    with pytest.raises(ValueError, match=r"dtype is torch.float64; it must be"):
        newton_schulz(bank(1, 4, 4), 5, torch.float64)
    with pytest.raises(ValueError, match=r"bank is \(4, 4\); it must be \[n, rows, cols\]"):
        newton_schulz(bank(4, 4).float(), 5, torch.float32)
