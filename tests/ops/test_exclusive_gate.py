"""Exclusive self-attention and gates: the kernels in the interpreter, and the definition."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from helpers import numerics

from golf_fast.ops import passes
from golf_fast.ops.exclusive_gate import exclusive_gate, reference
from golf_fast.ops.exclusive_gate.cases import SHAPES, random_arguments

CPU = torch.device("cpu")
interpreter = pytest.mark.interpreter
# A program takes 1 to 256 value heads: one; several, the last not full, that span rows; no powers of two.
CASES = (
    *SHAPES,
    ((2, 65, 8, 4, 64), True, True),
    ((1, 130, 4, 1, 64), True, True),
    ((1, 33, 6, 3, 96), True, False),
    ((3, 5, 8, 8, 8), False, True),
)


def results(
    arguments: tuple[torch.Tensor | None, ...], grad: torch.Tensor, function=exclusive_gate
) -> list[torch.Tensor]:
    """The new heads, and the gradients of y, v and gate as far as they are given."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in arguments]
    out = function(*leaves)
    return [out, *torch.autograd.grad(out, [t for t in leaves if t is not None], grad)]


@interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_match_the_definition(
    case: tuple[tuple[int, ...], bool, bool], dtype: torch.dtype, use_triton: Counter[str]
) -> None:
    arguments = random_arguments(*case, CPU, dtype, 3)
    grad = torch.randn(arguments[0].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    with numerics.poisoned_memory():
        found = results(arguments, grad)
    assert use_triton == {"exclusive_gate": 1, "exclusive_gate.backward": 1}
    exact = tuple(None if t is None else t.double() for t in arguments)
    expected = results(exact, grad.double(), reference.exclusive_gate)
    plain = results(arguments, grad, reference.exclusive_gate)
    for i, values in enumerate(zip(found, expected, plain, strict=True)):
        numerics.require_close(*values, f"{case} {i}", dtype)


@interpreter
def test_values_of_nothing_take_nothing_away(use_triton: Counter[str]) -> None:
    y, v, gate = random_arguments((1, 5, 4, 2, 16), True, True, CPU, torch.float32, 0)
    found = results((y, torch.zeros_like(v), gate), torch.ones_like(y))
    assert all(t.isfinite().all() for t in found)
    torch.testing.assert_close(found[0], y * torch.sigmoid(gate)[..., None])


@interpreter
def test_slices_are_read_as_they_are(use_triton: Counter[str]) -> None:
    """As of the last positions of several rows."""
    arguments = random_arguments((3, 9, 6, 2, 24), True, True, CPU, torch.float32, 0)
    last = tuple(t[:, 4:] for t in arguments)
    for found, expected in zip(
        results(last, torch.ones_like(last[0])),
        results(last, torch.ones_like(last[0]), reference.exclusive_gate),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(exclusive_gate(*last), exclusive_gate(*(t.contiguous() for t in last)))


@interpreter
def test_nothing_around_the_outputs_is_written(use_triton: Counter[str]) -> None:
    from golf_fast.ops.exclusive_gate import triton

    arguments = random_arguments((3, 5, 6, 2, 24), True, True, CPU, torch.float32, 0)
    bands = [numerics.GuardBand(tuple(t.shape), t.dtype, CPU) for t in (arguments[0], *arguments)]
    triton.forward(*arguments, bands[0].tensor)()
    triton.backward(arguments[0], *arguments, *(band.tensor for band in bands[1:]))()
    for band in bands:
        band.check()
        assert not band.tensor.isnan().any()


@pytest.mark.skipif(passes.obstacle("cpu") is not None, reason="no passes")
@pytest.mark.parametrize("path", passes.paths())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_passes_take_gates_without_bounds_and_values_of_nothing(path: str, dtype: torch.dtype) -> None:
    logits = [-torch.inf, -200.0, -90.0, -10.0, 0.0, 10.0, 90.0, 200.0, torch.inf, torch.nan]
    gate = torch.tensor(logits, dtype=dtype).view(1, 1, 10)
    y, v, _ = random_arguments((1, 1, 10, 2, 24), True, False, CPU, dtype, 0)
    v = torch.stack((v[:, :, 0], torch.zeros_like(v[:, :, 1])), dim=2)
    grad = torch.ones_like(y)
    with passes.using(path), numerics.poisoned_memory():
        found = results((y, v, gate), grad)
    exact = tuple(t.double() for t in (y, v, gate))
    expected = results(exact, grad.double(), reference.exclusive_gate)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.isnan().any(), "no number became one"
        # At 90 and beyond what is left of a gate or its slope is taken for e^-87 at least, or in float64 for 0.
        torch.testing.assert_close(
            a.double(),
            b,
            rtol=1e-5 if dtype == torch.float32 else 1e-2,
            atol=1e-34,
            equal_nan=True,
            msg=lambda m, i=i: f"{i} {m}",
        )


def test_the_definition_by_hand() -> None:
    """Two heads share a value along (3, 4) / 5; of (5, 10), 11 along it is gone."""
    y = torch.tensor([[5.0, 10.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    out = exclusive_gate(y, torch.tensor([30.0, 40.0]).view(1, 1, 1, 2))
    torch.testing.assert_close(out, torch.tensor([[5 - 6.6, 10 - 8.8], [0.0, 0.0]]).view(1, 1, 2, 2))
    half = exclusive_gate(y, None, torch.tensor([[[0.0, 100.0]]]))
    torch.testing.assert_close(half, torch.tensor([[2.5, 5.0], [3.0, 4.0]]).view(1, 1, 2, 2))


@interpreter
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": torch.zeros(5, 6, 24)}, "y is"),
        ({"v": None, "gate": None}, "v and gate are None"),
        ({"v": torch.zeros(3, 5, 4, 24)}, r"v is \(3, 5, 4, 24\); it must be .* a divisor of 6"),
        ({"v": torch.zeros(3, 4, 2, 24)}, "v is"),
        ({"v": torch.zeros(3, 5, 2, 24).half()}, "the dtype of y"),
        ({"v": torch.zeros(3, 5, 24, 2).mT}, "contiguous in its last dimension"),
        ({"gate": torch.zeros(3, 5, 2)}, "gate is"),
        ({"gate": torch.zeros(3, 5, 6, device="meta")}, "where y is"),
    ],
)
def test_wrong_arguments_are_named(changes: dict, message: str, use_triton: Counter[str]) -> None:
    arguments = dict(
        zip(("y", "v", "gate"), random_arguments((3, 5, 6, 2, 24), True, True, CPU, torch.float32, 0), strict=True)
    )
    with pytest.raises(ValueError, match=message):
        exclusive_gate(**(arguments | changes))
    assert not use_triton


@interpreter
def test_float64_is_not_for_the_kernels(use_triton: Counter[str]) -> None:
    with pytest.raises(ValueError, match=r"float64.*GOLF_FAST_BACKENDS=exclusive_gate=reference"):
        exclusive_gate(*random_arguments((3, 5, 6, 2, 24), True, True, CPU, torch.float64, 0))
