"""Norm, rotation and gain of queries and keys: the kernels in the interpreter, and the definition."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from helpers import numerics, qk_checks
from torch._dynamo.testing import CompileCounterWithBackend

from golf_fast.ops.qk_norm_rope import qk_norm_rope, reference
from golf_fast.ops.qk_norm_rope.cases import SHAPES, random_arguments

CPU = torch.device("cpu")
interpreter = pytest.mark.interpreter


@interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", qk_checks.CASES, ids=str)
def test_kernels_match_the_definition(shape: tuple[int, ...], dtype: torch.dtype, use_triton: Counter[str]) -> None:
    qk_checks.require_right(shape, CPU, dtype)
    assert use_triton == {"qk_norm_rope": 1, "qk_norm_rope.backward": 1}


@interpreter
@pytest.mark.parametrize("scale", [1e-6, 1e-20, 1e15])
def test_extreme_values(scale: float, use_triton: Counter[str]) -> None:
    """Around the epsilon of the norm, far below it (the norm divides by its root), and squares near the largest."""
    q, k, gain, cos, sin = random_arguments((1, 17, 4, 2, 32, 16), CPU, torch.float32, 0)
    found = qk_norm_rope(q * scale, k * scale, gain, cos, sin)
    exact = (t.double() for t in (q * scale, k * scale, gain, cos, sin))
    for a, b in zip(found, reference.qk_norm_rope(*exact), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6 * float(b.abs().max()))


@interpreter
def test_zeros_stay_zeros_with_finite_gradients(use_triton: Counter[str]) -> None:
    q, k, gain, cos, sin = random_arguments((1, 5, 2, 1, 32, 16), CPU, torch.float32, 0)
    q, k = (torch.zeros_like(t).requires_grad_() for t in (q, k))
    out = qk_norm_rope(q, k, gain, cos, sin)
    grads = torch.autograd.grad(out[0].sum() + out[1].sum(), (q, k))
    assert not any(t.any() for t in out)
    assert all(t.isfinite().all() for t in grads)


@interpreter
def test_nothing_around_the_outputs_is_written(use_triton: Counter[str]) -> None:
    from golf_fast.ops.qk_norm_rope import triton

    inputs = random_arguments((3, 5, 3, 1, 24, 5), CPU, torch.float32, 0)
    q, k = inputs[:2]
    q_out, d_q = (numerics.GuardBand(tuple(q.shape), q.dtype, CPU) for _ in range(2))
    k_out, d_k = (numerics.GuardBand(tuple(k.shape), q.dtype, CPU) for _ in range(2))
    d_gain = numerics.GuardBand((triton.programs(q), 3), torch.float32, CPU)
    triton.forward(*inputs, reference.EPS, q_out.tensor, k_out.tensor)()
    triton.backward(q, k, *inputs, reference.EPS, d_q.tensor, d_k.tensor, d_gain.tensor)()
    for band in (q_out, k_out, d_q, d_k, d_gain):
        band.check()
        assert not band.tensor.isnan().any()


@interpreter
def test_slices_and_broadcast_gradients_are_read_where_they_are(use_triton: Counter[str]) -> None:
    _, _, gain, cos, sin = random_arguments((2, 9, 4, 2, 32, 16), CPU, torch.float32, 0)
    whole = torch.randn(2, 9, 6, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    expected = whole.detach().double().requires_grad_()
    sum(t.sum() for t in qk_norm_rope(*whole.split((4, 2), dim=2), gain, cos, sin)).backward()
    exact = (t.double() for t in (gain, cos, sin))
    sum(t.sum() for t in reference.qk_norm_rope(*expected.split((4, 2), dim=2), *exact)).backward()
    torch.testing.assert_close(whole.grad.double(), expected.grad, rtol=0, atol=1e-5)


@interpreter
def test_compiled_whole_for_any_length(use_triton: Counter[str]) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(qk_norm_rope, backend=counter, fullgraph=True, dynamic=True)
    for length in (8, 17, 33):
        arguments = random_arguments((2, length, 4, 2, 32, 16), CPU, torch.float32, 0)
        leaves = [t.requires_grad_() for t in arguments[:3]]
        both = qk_norm_rope(*arguments), compiled(*arguments)
        grads = [torch.autograd.grad(q.square().sum() + k.sin().sum(), leaves) for q, k in both]
        torch.testing.assert_close(both[1], both[0], rtol=0, atol=0)
        torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0)
    assert counter.frame_count == 1


def test_the_definition_turns_pairs_by_hand() -> None:
    """A quarter turn moves the first half of the pairs to minus the second; dimensions beyond the pairs stay."""
    x = torch.tensor([3.0, 4.0, 12.0, 5.0, 1.0, 2.0]).view(1, 1, 1, 6)
    quarter, none = torch.ones(1, 2), torch.zeros(1, 2)
    turned = reference.rotate(x, none, quarter).flatten().tolist()
    assert turned == [12.0, 5.0, -3.0, -4.0, 1.0, 2.0]
    q, k = reference.qk_norm_rope(x, x, torch.tensor([2.0]), quarter, none)
    rms = (199 / 6 + reference.EPS) ** 0.5
    torch.testing.assert_close(k, x / rms)
    torch.testing.assert_close(q, 2 * k)


def _arguments(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    names = ("q", "k", "gain", "cos", "sin")
    return dict(zip(names, random_arguments(SHAPES[1], CPU, torch.float32, 0), strict=True)) | changes


@interpreter
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.zeros(17, 4, 32)}, "q is"),
        ({"k": torch.zeros(2, 16, 2, 32)}, "k is"),
        ({"gain": torch.zeros(3)}, "gain is"),
        ({"cos": torch.zeros(16, 16)}, r"cos is \(16, 16\); it must be \(17, 16\), as q is"),
        ({"cos": torch.zeros(17, 17), "sin": torch.zeros(17, 17)}, "cos has 17 pairs"),
        ({"sin": torch.zeros(17, 8)}, "sin is"),
        ({"gain": torch.zeros(4).half()}, "the dtype of q"),
        ({"cos": torch.zeros(17, 16, device="meta")}, "where q is"),
        ({"cos": torch.zeros(17, 16, requires_grad=True)}, "a constant"),
        ({"k": torch.zeros(2, 17, 32, 2).mT}, "contiguous in its last dimension"),
        ({"sin": torch.zeros(16, 17).T}, "it must be contiguous"),
    ],
)
def test_wrong_arguments_are_named(changes: dict, message: str, use_triton: Counter[str]) -> None:
    with pytest.raises(ValueError, match=message):
        qk_norm_rope(**_arguments(**changes))
    assert not use_triton


@interpreter
def test_float64_is_not_for_the_kernels(use_triton: Counter[str]) -> None:
    with pytest.raises(ValueError, match=r"float64.*GOLF_FAST_BACKENDS=qk_norm_rope=reference"):
        qk_norm_rope(*random_arguments(SHAPES[1], CPU, torch.float64, 0))
