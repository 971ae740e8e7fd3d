"""qkv_attention beyond the samples of the registry: which kernels run, what is saved, layouts, errors."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import require_close

from golf_fast.ops import backends, passes, qk_norm_rope, qkv_attention, window_attention
from golf_fast.ops.launch import launches
from golf_fast.ops.qkv_attention import reference
from golf_fast.ops.qkv_attention.cases import packed_arguments

pytest.importorskip("triton")

CPU = torch.device("cpu")
interpreter = pytest.mark.interpreter


def arguments(pairs: int = 16) -> tuple[torch.Tensor, ...]:
    """qkv of 40 positions, 4 and 2 heads of 32."""
    return packed_arguments((1, 40, 4, 2, 32, pairs), CPU, torch.float32, 0)


def gradients(function, inputs: tuple[torch.Tensor, ...], reduce) -> list[torch.Tensor]:
    qkv, gain = (t.clone().requires_grad_() for t in inputs[:2])
    reduce(function(qkv, gain, *inputs[2:])).backward()
    return [qkv.grad, gain.grad]


@interpreter
@pytest.mark.parametrize(("pairs", "own_backward"), [(16, 0), (8, 1)], ids=["full rotation", "partial rotation"])
def test_a_full_rotation_is_taken_back_by_the_kernels_of_attention(pairs: int, own_backward: int, use_triton) -> None:
    gradients(qkv_attention, arguments(pairs), torch.sum)
    expected = {
        "qk_norm_rope": 1,
        "window_attention": 1,
        "window_attention.d_query": 1,
        "window_attention.d_key_value": 1,
        "qk_norm_rope.backward": own_backward,
    }
    assert use_triton == {name: count for name, count in expected.items() if count}


@interpreter
def test_a_gradient_of_any_layout_is_taken(use_triton) -> None:
    """`sum` and a transpose give gradients that are expanded or strided."""
    for reduce in (torch.sum, lambda out: (out.transpose(1, 2).flatten(2) @ torch.linspace(0, 1, 40 * 32)).sum()):
        ours, plain = (gradients(f, arguments(), reduce) for f in (qkv_attention, reference.qkv_attention))
        for found, expected in zip(ours, plain, strict=True):
            require_close(found, expected, expected * (1 + 1e-5), "gradient")


@interpreter
def test_no_tokens(use_triton) -> None:
    qkv = torch.empty(2, 0, 8, 32, requires_grad=True)
    gain = torch.ones(4, requires_grad=True)
    out = qkv_attention(qkv, gain, torch.empty(0, 16), torch.empty(0, 16))
    out.sum().backward()
    assert out.shape == (2, 0, 4, 32)
    assert qkv.grad is not None
    assert qkv.grad.shape == qkv.shape
    assert torch.equal(gain.grad, torch.zeros(4))


@interpreter
def test_is_the_two_ops_one_after_the_other(use_triton) -> None:
    qkv, gain, cos, sin = arguments()
    q, k, v = reference.split(qkv, 4)
    q, k = qk_norm_rope(q, k, gain, cos, sin)
    expected = window_attention(q, k, v, 7, logit_bound=float(gain.abs().max()) * 32**0.5)
    torch.testing.assert_close(qkv_attention(qkv, gain, cos, sin, 7), expected, rtol=0, atol=1e-6)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch):
    """Set GOLF_FAST_BACKENDS, on a machine where the kernels can be interpreted."""

    def set_variable(text: str) -> None:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setenv(backends.VARIABLE, text)
        backends.forget()

    yield set_variable
    backends.forget()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("triton", "triton"),
        ("reference", "separate"),
        ("qk_norm_rope=triton,window_attention=triton", "separate"),
        ("qkv_attention=separate", "separate"),
        ("", "native" if passes.obstacle("cpu") is None else "separate"),
        ("window_attention=blocked", "separate"),
    ],
)
def test_which_implementation_runs_on_a_cpu(asked: str, name: str, ask) -> None:
    ask(asked)
    assert backends.resolve("qkv_attention", "cpu").name == name


@pytest.mark.parametrize("other", ["qk_norm_rope=reference", "window_attention=blocked"])
def test_its_kernels_cannot_run_where_a_part_runs_without(other: str, ask) -> None:
    ask(f"triton,{other}")
    with pytest.raises(ValueError, match=f"qkv_attention=triton, .* cpu: {other.replace('=', ' is ')}$"):
        backends.resolve("qkv_attention", "cpu")


@interpreter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"qkv": torch.zeros(1, 40, 8 * 32)},
            r"qkv is \(1, 40, 256\); it must be \[B, T, heads \+ 2",
        ),
        ({"qkv": torch.zeros(1, 40, 7, 32)}, r"qkv is \(1, 40, 7, 32\); .* with 4 heads as in gain"),
        ({"qkv": torch.zeros(1, 40, 4, 32)}, r"qkv is \(1, 40, 4, 32\)"),
        ({"qkv": torch.zeros(1, 40, 16, 32)[:, :, ::2]}, r"qkv has strides .*; it must be contiguous"),
        ({"qkv": torch.zeros(1, 40, 10, 32)}, r"k has 3 heads; it must be a divisor of 4"),
        ({"gain": torch.ones(4, 1)}, r"gain is \(4, 1\); it must be \[heads\]"),
        ({"gain": torch.ones(4).half()}, r"gain is torch.float16; it must be the dtype of qkv, torch.float32"),
        ({"cos": torch.zeros(39, 16)}, r"cos is \(39, 16\)"),
        ({"window": 0}, r"window is 0; it must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], message: str, use_triton) -> None:
    given = dict(zip(("qkv", "gain", "cos", "sin"), arguments(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        qkv_attention(**given)
    assert not launches
