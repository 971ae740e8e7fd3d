"""The factors and the momentum of an update beyond the samples of the registry: bounds, flags, what is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.numerics import GuardBand, poisoned_memory

from golf_fast.ops import nesterov, update_factors
from golf_fast.ops.update import reference

triton = pytest.importorskip("golf_fast.ops.update.triton", reason="triton is not installed")

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.interpreter),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
# one number; odd; a program to the last number, and one more; several
SIZES = (1, 777, triton.BLOCK, triton.BLOCK + 1, 3 * triton.BLOCK - 5)
NAN, INF = math.nan, math.inf
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def drawn(size: int, seed: int, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def scalar(value: float | None, device: str) -> torch.Tensor | None:
    return None if value is None else torch.tensor(value, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDING, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize(("clip", "failed"), [(None, None), (0.3, None), (None, 0.0), (0.3, 0.0), (0.3, 1.0)])
def test_momentum_is_right_and_in_bounds(
    device: str, dtype: torch.dtype, clip: float | None, failed: float | None, use_triton
) -> None:
    for size in SIZES:
        gradient, momentum = GuardBand((size,), dtype, device), GuardBand((size,), dtype, device)
        gradient.tensor.copy_(drawn(size, 0, device))
        momentum.tensor.copy_(drawn(size, 1, device))
        given, moved = gradient.tensor.double(), momentum.tensor.double()
        expected = reference.nesterov(given.clone(), moved, 0.95, scalar(clip, device), scalar(failed, device))
        direction = GuardBand((size,), dtype, device)
        factors = scalar(clip, device), scalar(failed, device)
        triton.nesterov(gradient.tensor, momentum.tensor, 0.95, *factors, direction.tensor)()
        for found, right in ((gradient, given), (momentum, moved), (direction, expected)):
            found.check()
            torch.testing.assert_close(found.tensor.double(), right, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    assert use_triton == {"update.nesterov": len(SIZES)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDING, ids=lambda dtype: str(dtype)[6:])
def test_where_it_failed_momentum_stays_to_the_bit_and_the_direction_is_0(
    device: str, dtype: torch.dtype, use_triton
) -> None:
    gradient, momentum = drawn(777, 0, device, dtype), drawn(777, 1, device, dtype)
    gradient[::3], gradient[1::3] = NAN, INF
    kept = momentum.clone()
    with poisoned_memory():
        direction = nesterov(gradient, momentum, 0.95, scalar(NAN, device), scalar(1.0, device))
    assert torch.equal(momentum, kept)
    assert torch.equal(direction, torch.zeros_like(gradient))
    assert use_triton == {"update.nesterov": 1}


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_not_finite_stays_where_it_is(device: str, use_triton) -> None:
    gradient, momentum = drawn(50, 0, device), drawn(50, 1, device)
    gradient[7] = NAN
    direction = nesterov(gradient, momentum, 0.95)
    for tensor in (direction, momentum):
        assert torch.equal(tensor.isnan().nonzero().flatten().cpu(), torch.tensor([7]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("grad_clip", [0.0, 0.3, 100.0])
@pytest.mark.parametrize(
    ("bad", "doubt"),
    [({}, 0.0), ({}, NAN), ({0: NAN}, 0.0), ({2: INF}, 0.0), ({-1: NAN}, 0.0), ({-1: -INF}, 0.0), ({1: 0.0}, 0.0)],
    ids=["good", "doubted before", "norm nan", "norm inf", "loss nan", "loss -inf", "norm 0"],
)
def test_factors_are_those_of_the_definition(
    device: str, squares: bool, grad_clip: float, bad: dict[int, float], doubt: float, use_triton
) -> None:
    for count in (1, 3, 16, 33):
        found = drawn(count + 1, count, device).square()
        for place, value in bad.items():
            found[min(place, count - 1)] = value
        before = torch.tensor(doubt, device=device)
        with poisoned_memory():
            made = update_factors(found, before, grad_clip, squares=squares)
        expected = reference.factors(found, before, grad_clip, squares)
        for name, one, right in zip(made._fields, made, expected, strict=True):
            assert (one.shape, one.dtype) == (right.shape, right.dtype), name
            torch.testing.assert_close(one, right, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}")
        wrong = math.isnan(doubt) or not all(math.isfinite(value) for value in bad.values())
        assert bool(made.ok) is not wrong
        assert float(made.failed) == wrong
    assert use_triton == {"update.factors": 4}


@pytest.mark.parametrize("device", DEVICES)
def test_factors_write_nothing_else(device: str, use_triton) -> None:
    found, doubt = drawn(20, 0, device).square(), torch.zeros((), device=device)
    bands = [GuardBand((), dtype, device) for dtype in (torch.float32, torch.int8, torch.float32, torch.float32)]
    new_doubt, ok, failed, clip = (band.tensor for band in bands)
    triton.factors(found, doubt, 0.3, False, new_doubt, ok.view(torch.bool), failed, clip)()
    for band in bands:
        band.check()
    assert (float(new_doubt), int(ok), float(failed)) == (0.0, 1, 0.0)
    assert float(clip) == pytest.approx(0.3 / (float(found[:-1].norm()) + 1e-6))


@pytest.mark.parametrize("failed", [None, 0.0, 1.0])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_the_plain_version_keeps_the_gradient(clip: float | None, failed: float | None) -> None:
    gradient, momentum = drawn(9, 0, "cpu"), drawn(9, 1, "cpu")
    given, before = gradient.clone(), momentum.clone()
    direction = nesterov(gradient, momentum, 0.9, scalar(clip, "cpu"), scalar(failed, "cpu"))
    assert torch.equal(gradient, given)
    g = given * (clip or 1.0)
    moved, way = (before, 0 * g) if failed else (0.9 * before + g, g + 0.9 * (0.9 * before + g))
    torch.testing.assert_close((momentum, direction), (moved, way))


def test_the_plain_version_takes_float64() -> None:
    found, doubt = torch.tensor([3.0, 4.0, 1.0], dtype=torch.float64), torch.zeros(())
    made = update_factors(found, doubt, 1.0, squares=False)
    assert (made.doubt.dtype, made.clip.dtype) == (torch.float32, torch.float64)
    assert float(made.clip) == 1 / (5 + 1e-6)


@pytest.mark.interpreter
def test_wrong_arguments_are_named(use_triton) -> None:
    x, zero = torch.ones(4), torch.zeros(())
    with pytest.raises(
        ValueError, match=r"found is torch.float64; it must be torch.float32; GOLF_FAST_BACKENDS=update"
    ):
        update_factors(x.double(), zero, 1.0, squares=False)
    with pytest.raises(ValueError, match=r"found is \(2, 2\); it must be \[n \+ 1\]"):
        update_factors(x.view(2, 2), zero, 1.0, squares=False)
    with pytest.raises(ValueError, match=r"gradient has strides \(2,\); it must be contiguous"):
        nesterov(torch.ones(8)[::2], x, 0.9)
    with pytest.raises(ValueError, match=r"clip is torch.int64; it must be of a floating dtype"):
        nesterov(x, x.clone(), 0.9, torch.ones((), dtype=torch.int64))
    with pytest.raises(ValueError, match=r"failed is \(1,\); it must be \(\)"):
        nesterov(x, x.clone(), 0.9, None, torch.zeros(1))
