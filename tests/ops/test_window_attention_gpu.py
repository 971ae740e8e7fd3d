"""Window attention on a GPU: the cases in half precision, compiled, on a stream, in a graph, at the seed's shapes."""

from __future__ import annotations

import pytest
import torch
from helpers import attention_checks, numerics
from helpers.attention_checks import CASES, Case

from golf_fast.ops import backends, launch
from golf_fast.ops.window_attention import window_attention
from golf_fast.ops.window_attention.cases import random_qkv

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
HALF = (torch.bfloat16, torch.float16)
SEED = tuple(
    Case(2048, window=window, heads=8, kv_heads=4, head_dim=64, rows=2, logit_bound=bound, asked=asked)
    for window in (None, 128, 500, 512)
    for bound, asked in ((None, False), (40.0, False), (40.0, True))
)
DOCUMENTS = Case(4096, window=300, heads=8, kv_heads=4, head_dim=64, ends=(1, 700, 701, 2048, 3000))


@pytest.fixture(autouse=True)
def kernels(use_triton):
    return use_triton


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("case", [*CASES, *SEED, DOCUMENTS], ids=str)
def test_kernels_match_the_definition(case: Case, dtype: torch.dtype, kernels) -> None:
    attention_checks.require_right(case, GPU, dtype)
    assert kernels == {f"window_attention{part}": 1 for part in ("", ".d_query", ".d_key_value")}


@pytest.mark.parametrize("case", [CASES[11], SEED[3], SEED[5], DOCUMENTS], ids=str)
def test_compiled_kernels_match_the_definition(case: Case) -> None:
    compiled = torch.compile(window_attention, fullgraph=True)
    attention_checks.require_right(case, GPU, torch.bfloat16, compiled)


@pytest.mark.parametrize("case", [CASES[11], SEED[0]], ids=str)
def test_another_stream(case: Case) -> None:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        attention_checks.require_right(case, GPU, torch.bfloat16)
    stream.synchronize()


def test_captured_in_a_graph_and_replayed_on_other_data() -> None:
    inputs = tuple(t.requires_grad_() for t in random_qkv((2, 300, 8, 4, 64), GPU, torch.bfloat16, 0))
    grad = torch.randn_like(inputs[0])

    def step() -> tuple[torch.Tensor, ...]:
        out = window_attention(*inputs, 100)
        return out, *torch.autograd.grad(out, inputs, grad)

    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        step()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for t, fresh in zip(inputs, random_qkv((2, 300, 8, 4, 64), GPU, torch.bfloat16, 1), strict=True):
            t.copy_(fresh)
    graph.replay()
    for replayed, again in zip(captured, step(), strict=True):
        assert torch.equal(replayed, again)


@pytest.mark.parametrize("logit_bound", [None, 40.0])
def test_nothing_around_the_outputs_is_written(logit_bound: float | None) -> None:
    from golf_fast.ops.window_attention import launches

    q, k, v = random_qkv((2, 1000, 8, 4, 64), GPU, torch.bfloat16, 0)
    out, d_q = (numerics.GuardBand(tuple(q.shape), q.dtype, GPU) for _ in range(2))
    d_k, d_v = (numerics.GuardBand(tuple(k.shape), q.dtype, GPU) for _ in range(2))
    lse, delta = (numerics.GuardBand((2, 8, 1000), torch.float32, GPU) for _ in range(2))
    launches.forward(q, k, v, None, 130, logit_bound, out.tensor, lse.tensor)()
    grads = d_q.tensor, d_k.tensor, d_v.tensor, delta.tensor
    for one in launches.backward(q, q, k, v, out.tensor, lse.tensor, None, 130, *grads):
        one()
    for band in (out, lse, d_q, d_k, d_v, delta):
        band.check()
        assert not band.tensor.isnan().any()


def test_gradients_are_the_same_in_every_run() -> None:
    inputs = tuple(t.requires_grad_() for t in random_qkv((4, 777, 8, 4, 64), GPU, torch.bfloat16, 0))
    grad = torch.randn_like(inputs[0])
    first, second = (torch.autograd.grad(window_attention(*inputs, 200), inputs, grad) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_a_growing_window_compiles_nothing_again() -> None:
    from golf_fast.ops.window_attention.triton import forward_kernel
    from golf_fast.ops.window_attention.triton_backward import d_key_value_kernel, d_query_kernel

    q, k, v = (t.requires_grad_() for t in random_qkv((1, 512, 8, 4, 64), GPU, torch.bfloat16, 0))

    def compiled() -> int:
        kernels = forward_kernel, d_query_kernel, d_key_value_kernel
        return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())

    counts = []
    for window in (1, 16, 100, 512, 10**6):
        window_attention(q, k, v, window).sum().backward()
        counts.append(compiled())
    assert len(set(counts)) == 1


def test_memory_of_a_step_is_what_the_docstring_says() -> None:
    """No float32 copy of a gradient, and nothing as large as the scores."""
    q, k, v = (t.requires_grad_() for t in random_qkv((8, 2048, 8, 4, 64), GPU, torch.bfloat16, 0))
    out = window_attention(q, k, v)
    grad = torch.randn_like(out)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.grad(out, (q, k, v), grad)
    delta = q.shape[0] * q.shape[1] * q.shape[2] * 4
    assert torch.cuda.max_memory_allocated() - before <= (q.numel() + 2 * k.numel()) * 2 + delta + 2**20


def test_a_gpu_takes_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backends.VARIABLE)
    backends.forget()
    assert backends.resolve("window_attention", GPU).name == "triton"
    launch.launches.clear()
    q, k, v = random_qkv((1, 64, 8, 4, 64), GPU, torch.bfloat16, 0)
    window_attention(q, k, v)
    assert launch.launches["window_attention"] == 1
