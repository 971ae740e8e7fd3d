"""Window attention: the kernels in the interpreter, and the paths that run on a CPU."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from helpers import attention_checks, numerics
from helpers.attention_checks import CASES, Case
from torch._dynamo.testing import CompileCounterWithBackend

from golf_fast.ops import backends, launch, passes
from golf_fast.ops.window_attention import reference, window_attention
from golf_fast.ops.window_attention.cases import cumulative, random_qkv

CPU = torch.device("cpu")
interpreter = pytest.mark.interpreter
with_passes = pytest.mark.skipif(passes.obstacle("cpu") is not None, reason="the extension has no passes here")
OTHERS = [pytest.param("native", marks=with_passes), "blocked", "sdpa", "reference"]


@interpreter
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_match_the_definition(case: Case, use_triton: Counter[str]) -> None:
    attention_checks.require_right(case, CPU, torch.float32)
    assert use_triton == {f"window_attention{part}": 1 for part in ("", ".d_query", ".d_key_value")}


@interpreter
@pytest.mark.parametrize("case", [CASES[3], CASES[11], CASES[19], CASES[22]], ids=str)
def test_kernels_match_the_definition_in_half_precision(case: Case, use_triton: Counter[str]) -> None:
    attention_checks.require_right(case, CPU, torch.float16)


@interpreter
@pytest.mark.parametrize("head_dim", [64, 128])
def test_tiles_of_older_gpus_match_the_definition(
    head_dim: int, use_triton: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from golf_fast.ops.window_attention import launches

    monkeypatch.setattr(launches, "architecture", lambda device: 80)
    case = Case(150, window=50, head_dim=head_dim, ends=(70,), logit_bound=40.0)
    attention_checks.require_right(case, CPU, torch.float32)


@interpreter
def test_keys_outside_of_the_visited_tiles_are_not_read(use_triton: Counter[str]) -> None:
    """NaN in every key and value that no row of a tile sees leaves that tile as it was, to the bit."""
    from golf_fast.ops.window_attention import launches

    length, window = 300, 70
    q, k, v = random_qkv((1, length, 2, 1, 32), CPU, torch.float32, 0)
    clean = window_attention(q, k, v, window)
    rows = launches.choose_tiles(32, 2, 90).forward.rows
    for first in range(0, length, rows):
        last = min(first + rows, length) - 1
        hidden = torch.ones(length, dtype=torch.bool)
        hidden[max(first - window + 1, 0) : last + 1] = False
        poisoned = [t.masked_fill(hidden[None, :, None, None], float("nan")) for t in (k, v)]
        found = window_attention(q, *poisoned, window)
        assert torch.equal(found[:, first : last + 1], clean[:, first : last + 1])


@interpreter
def test_gradients_do_not_read_outside_of_the_visited_tiles(use_triton: Counter[str]) -> None:
    from golf_fast.ops.window_attention import launches, operators

    length, window = 200, 40
    inputs = random_qkv((1, length, 1, 1, 32), CPU, torch.float32, 0)
    tiles = launches.choose_tiles(32, 1, 90)
    out, lse = operators.forward(*inputs, None, window, None, None)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    clean = operators.backward(grad, *inputs, out, lse, None, window)

    def only(first: int, end: int, *tensors: torch.Tensor) -> list[torch.Tensor]:
        hidden = torch.ones(length, dtype=torch.bool)
        hidden[max(first, 0) : end] = False
        return [t.masked_fill(hidden[None, :, None, None], float("nan")) for t in tensors]

    for first in range(0, length, tiles.d_key_value.keys):
        end = min(first + tiles.d_key_value.keys, length)
        q, g = only(first, end + window - 1, inputs[0], grad)
        _, d_key, d_value = operators.backward(g, q, *inputs[1:], out, lse, None, window)
        assert torch.equal(d_key[:, first:end], clean[1][:, first:end])
        assert torch.equal(d_value[:, first:end], clean[2][:, first:end])
    for first in range(0, length, tiles.d_query.rows):
        end = min(first + tiles.d_query.rows, length)
        k, v = only(first - window + 1, end, *inputs[1:])
        d_query, _, _ = operators.backward(grad, inputs[0], k, v, out, lse, None, window)
        assert torch.equal(d_query[:, first:end], clean[0][:, first:end])


@interpreter
def test_rows_of_a_batch_do_not_touch(use_triton: Counter[str]) -> None:
    q, k, v = (t.clone() for t in random_qkv((2, 33, 2, 1, 32), CPU, torch.float32, 0))
    alone = window_attention(q[:1], k[:1], v[:1])
    for t in (q, k, v):
        t[1] = float("nan")
    assert torch.equal(window_attention(q, k, v)[:1], alone)


@interpreter
def test_documents_equal_separate_calls(use_triton: Counter[str]) -> None:
    ends = (1, 2, 40, 104)
    packed = tuple(t[0] for t in random_qkv((1, 150, 4, 2, 32), CPU, torch.float32, 0))
    out, lse = window_attention(*packed, 30, cu_seqlens=cumulative(ends, 150, CPU), return_lse=True)
    edges = (0, *ends, 150)
    for first, end in itertools.pairwise(edges):
        single, single_lse = window_attention(*(t[None, first:end] for t in packed), 30, return_lse=True)
        torch.testing.assert_close(out[first:end], single[0], rtol=0, atol=2e-6)
        torch.testing.assert_close(lse[:, first:end], single_lse[0], rtol=0, atol=2e-6)


@interpreter
@pytest.mark.parametrize("logit_bound", [None, 40.0])
def test_nothing_around_the_outputs_is_written(logit_bound: float | None, use_triton: Counter[str]) -> None:
    from golf_fast.ops.window_attention import launches

    q, k, v = random_qkv((2, 131, 4, 2, 32), CPU, torch.float32, 0)
    out, d_q = (numerics.GuardBand(tuple(q.shape), q.dtype, CPU) for _ in range(2))
    d_k, d_v = (numerics.GuardBand(tuple(k.shape), q.dtype, CPU) for _ in range(2))
    lse, delta = (numerics.GuardBand((2, 4, 131), torch.float32, CPU) for _ in range(2))
    launches.forward(q, k, v, None, 50, logit_bound, out.tensor, lse.tensor)()
    grads = d_q.tensor, d_k.tensor, d_v.tensor, delta.tensor
    for one in launches.backward(q, q, k, v, out.tensor, lse.tensor, None, 50, *grads):
        one()
    for band in (out, lse, d_q, d_k, d_v, delta):
        band.check()
        assert not band.tensor.isnan().any()


@interpreter
def test_slices_and_broadcast_gradients_are_read_where_they_are(use_triton: Counter[str]) -> None:
    """q, k and v as slices of one tensor; the gradient of a sum has strides of zero."""
    whole = torch.randn(2, 40, 8, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    expected = whole.detach().double().requires_grad_()
    window_attention(*whole.split((4, 2, 2), dim=2), 20).sum().backward()
    reference.window_attention(*expected.split((4, 2, 2), dim=2), 20).sum().backward()
    torch.testing.assert_close(whole.grad.double(), expected.grad, rtol=0, atol=1e-5)


@interpreter
def test_log_sum_exp_is_right_and_has_no_gradient(use_triton: Counter[str]) -> None:
    q, k, v = (t.requires_grad_() for t in random_qkv((2, 70, 4, 2, 32), CPU, torch.float32, 0))
    for logit_bound in (None, 40.0):
        _, lse = window_attention(q, k, v, 40, logit_bound=logit_bound, return_lse=True)
        assert not lse.requires_grad
        torch.testing.assert_close(lse, reference.log_sum_exp(q, k, 40), rtol=0, atol=2e-6)


@interpreter
def test_the_running_maximum_is_kept_where_a_constant_would_fail(use_triton: Counter[str]) -> None:
    """All scores of a row far below the bound: beyond 40, or in half precision, their weights would vanish."""
    q, k, v = random_qkv((1, 20, 1, 1, 32), CPU, torch.float32, 0)
    far = -torch.ones_like(k) * 120 / 32**0.5
    expected = v.cumsum(1) / torch.arange(1, 21)[None, :, None, None]
    for bound in (130.0, torch.tensor(130.0)):
        out = window_attention(torch.ones_like(q), far, v, logit_bound=bound)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    half = [t.half() for t in (torch.ones_like(q), far / 4, v)]
    out = window_attention(*half, logit_bound=35.0)
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=2e-3)


@interpreter
def test_a_bound_on_the_device_does_what_the_number_does(use_triton: Counter[str]) -> None:
    """To the bit, on either side of 40; and a bound that is far too low shows that the constant was used."""
    q, k, v = random_qkv((1, 100, 2, 1, 32), CPU, torch.float32, 0)
    for bound, like in ((30.0, 30.0), (40.0, 40.0), (40.01, None), (float("nan"), None)):
        asked = window_attention(q, k, v, logit_bound=torch.tensor(bound))
        assert torch.equal(asked, window_attention(q, k, v, logit_bound=like))
    huge = 100 * q
    assert not window_attention(huge, k, v, logit_bound=torch.tensor(1.0)).isfinite().all()
    assert window_attention(huge, k, v, logit_bound=torch.tensor(1000.0)).isfinite().all()


@interpreter
def test_no_tokens(use_triton: Counter[str]) -> None:
    q, k, v = (t.requires_grad_() for t in random_qkv((2, 0, 4, 2, 32), CPU, torch.float32, 0))
    out = window_attention(q, k, v)
    out.sum().backward()
    assert out.shape == q.grad.shape == (2, 0, 4, 32)
    assert not use_triton


@interpreter
def test_compiled_whole_and_a_growing_window_compiles_twice_at_most(use_triton: Counter[str]) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(window_attention, backend=counter, fullgraph=True)
    q, k, v = (t.requires_grad_() for t in random_qkv((1, 33, 2, 1, 32), CPU, torch.float32, 0))
    cu_seqlens = cumulative((5,), 33, CPU)
    for window in (4, 8, 16, 31, 100):
        bound = torch.tensor(30.0 + window)
        eager = window_attention(q, k, v, window, cu_seqlens=cu_seqlens, logit_bound=bound)
        out = compiled(q, k, v, window, cu_seqlens=cu_seqlens, logit_bound=bound)
        torch.testing.assert_close(out, eager, rtol=0, atol=0)
        for a, b in zip(*(torch.autograd.grad(o.square().sum(), (q, k, v)) for o in (out, eager)), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert counter.frame_count <= 2


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[11], CASES[15], CASES[19]], ids=str)
def test_other_backends_match_the_definition(case: Case, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, f"window_attention={backend}")
    backends.forget()
    launch.launches.clear()
    attention_checks.require_right(case, CPU, torch.float32)
    q, k, v = (t[0] for t in case.qkv(CPU, torch.float32))
    cu_seqlens = case.cu_seqlens(CPU)
    out, lse = window_attention(q, k, v, case.window, cu_seqlens=cu_seqlens, return_lse=True)
    expected = reference.window_attention(q, k, v, case.window, cu_seqlens=cu_seqlens, return_lse=True)
    torch.testing.assert_close((out, lse), expected)
    backends.forget()
    assert not launch.launches


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("window", [None, 40])
def test_other_documents_make_no_graph_anew(window: int | None, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, f"window_attention={backend}")
    backends.forget()
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(window_attention, backend=counter, fullgraph=True, dynamic=False)
    q, k, v = (t.requires_grad_() for t in random_qkv((1, 200, 2, 1, 32), CPU, torch.float32, 0))
    for ends in ((5,), (70,), (199,)):
        cu_seqlens = cumulative(ends, 200, CPU)
        found = []
        for function in (window_attention, compiled):
            out = function(q, k, v, window, cu_seqlens=cu_seqlens)
            found.append((out, torch.autograd.grad(out.square().sum(), (q, k, v))))
        torch.testing.assert_close(*found)
    assert counter.frame_count == 1
    backends.forget()


@with_passes
def test_a_cpu_takes_its_own_path_unless_asked() -> None:
    backends.forget()
    assert backends.resolve("window_attention", "cpu").name == "native"


def test_document_bounds_by_hand() -> None:
    first, last = reference.document_bounds(torch.tensor([0, 1, 1, 4, 6, 6, 6], dtype=torch.int32), 6).tolist()
    assert first == [0, 1, 1, 1, 4, 4]
    assert last == [0, 3, 3, 3, 5, 5]
    first, last = reference.document_bounds(torch.tensor([0, 2, 3], dtype=torch.int32), 5).tolist()
    assert first == [0, 0, 2, 3, 3]
    assert last == [1, 1, 2, 4, 4]


def test_document_bounds_stay_inside_whatever_they_are_given() -> None:
    generator = torch.Generator().manual_seed(0)
    position = torch.arange(20)
    for _ in range(50):
        wild = torch.randint(-30, 60, (5,), generator=generator, dtype=torch.int32)
        first, last = reference.document_bounds(wild, 20)
        assert bool(((first >= 0) & (first <= position) & (last >= position) & (last < 20)).all())


def _arguments(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip("qkv", random_qkv((2, 8, 4, 2, 32), CPU, torch.float32, 0), strict=True)) | changes


@interpreter
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (_arguments(q=torch.zeros(8, 32)), r"q is \(8, 32\)"),
        (_arguments(k=torch.zeros(2, 7, 2, 32)), "k is"),
        (_arguments(v=torch.zeros(2, 8, 1, 32)), "v is"),
        (_arguments(k=torch.zeros(2, 8, 3, 32), v=torch.zeros(2, 8, 3, 32)), "a divisor of 4"),
        (_arguments(k=torch.zeros(2, 8, 2, 32).half()), "the dtype of q"),
        (_arguments(v=torch.zeros(2, 8, 2, 32, device="meta")), "where q is"),
        (_arguments() | {"window": 0}, "window is 0"),
        (_arguments() | {"logit_bound": -1.0}, "logit_bound is -1.0"),
        (_arguments() | {"logit_bound": torch.zeros(4)}, r"logit_bound is \(4,\); it must be \(\), as q is"),
        (_arguments() | {"logit_bound": torch.tensor(1.0, device="meta")}, "where q is"),
        (_arguments() | {"cu_seqlens": torch.tensor([0, 8], dtype=torch.int32)}, "of one row"),
        (_arguments() | {"cu_seqlens": torch.tensor([0, 8])}, "torch.int32"),
        (_arguments() | {"cu_seqlens": torch.tensor(8, dtype=torch.int32)}, r"\[documents \+ 1\]"),
        ({n: torch.zeros(1, 8, 2, 48) for n in "qkv"}, "head_dim is 48.*GOLF_FAST_BACKENDS=window_attention=sdpa"),
        ({n: torch.zeros(1, 8, 2, 32).double() for n in "qkv"}, "float64.*sdpa"),
        (
            {n: torch.zeros(1, 8, 2, 32).bfloat16() for n in "qkv"},
            "q is torch.bfloat16; it must be torch.float16 or",
        ),
        (_arguments(q=torch.zeros(2, 8, 32, 4).mT), "contiguous in its last dimension"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str, use_triton: Counter[str]) -> None:
    with pytest.raises(ValueError, match=message):
        window_attention(**arguments)
    assert not use_triton
