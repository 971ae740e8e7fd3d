"""Norm, rotation and gain of queries and keys on a GPU: the cases, compiled, on a stream, in a graph."""

from __future__ import annotations

import pytest
import torch
from helpers import numerics, qk_checks

from golf_fast.ops.qk_norm_rope import qk_norm_rope, reference
from golf_fast.ops.qk_norm_rope.cases import random_arguments

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
SEED = (2, 2048, 8, 4, 64, 32)


@pytest.fixture(autouse=True)
def kernels(use_triton):
    return use_triton


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [*qk_checks.CASES, SEED], ids=str)
def test_kernels_match_the_definition(shape: tuple[int, ...], dtype: torch.dtype, kernels) -> None:
    qk_checks.require_right(shape, GPU, dtype)
    assert kernels == {"qk_norm_rope": 1, "qk_norm_rope.backward": 1}


@pytest.mark.parametrize("shape", [qk_checks.CASES[3], SEED], ids=str)
def test_compiled_kernels_match_the_definition(shape: tuple[int, ...]) -> None:
    qk_checks.require_right(shape, GPU, torch.bfloat16, torch.compile(qk_norm_rope, fullgraph=True))


def test_another_stream() -> None:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        qk_checks.require_right(SEED, GPU, torch.bfloat16)
    stream.synchronize()


def test_captured_in_a_graph_and_replayed_on_other_data() -> None:
    arguments = random_arguments(SEED, GPU, torch.bfloat16, 0)
    leaves = [t.requires_grad_() for t in arguments[:3]]
    grads = [torch.randn_like(t) for t in leaves[:2]]

    def step() -> tuple[torch.Tensor, ...]:
        out = qk_norm_rope(*arguments)
        return *out, *torch.autograd.grad(out, leaves, grads)

    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        step()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for t, fresh in zip(leaves, random_arguments(SEED, GPU, torch.bfloat16, 1), strict=False):
            t.copy_(fresh)
    graph.replay()
    for replayed, again in zip(captured, step(), strict=True):
        assert torch.equal(replayed, again)


def test_nothing_around_the_outputs_is_written() -> None:
    from golf_fast.ops.qk_norm_rope import triton

    inputs = random_arguments((3, 333, 8, 4, 64, 32), GPU, torch.bfloat16, 0)
    q, k = inputs[:2]
    q_out, d_q = (numerics.GuardBand(tuple(q.shape), q.dtype, GPU) for _ in range(2))
    k_out, d_k = (numerics.GuardBand(tuple(k.shape), q.dtype, GPU) for _ in range(2))
    d_gain = numerics.GuardBand((triton.programs(q), 8), torch.float32, GPU)
    triton.forward(*inputs, reference.EPS, q_out.tensor, k_out.tensor)()
    triton.backward(q, k, *inputs, reference.EPS, d_q.tensor, d_k.tensor, d_gain.tensor)()
    for band in (q_out, k_out, d_q, d_k, d_gain):
        band.check()
        assert not band.tensor.isnan().any()
