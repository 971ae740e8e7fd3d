"""Every op with Triton kernels against its definition, on the samples of the registry: output and every gradient.

Under the interpreter in float32 and float16 (its bf16 `dot` is wrong), on a GPU in bfloat16 and float16.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch
from helpers.compare import require_same, run, upstream_gradients
from helpers.numerics import require_close

from golf_fast.ops import backends, registry

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

CPU, GPU = torch.device("cpu"), torch.device("cuda")
WITH_KERNELS = [op for op in backends.registered() if "triton" in backends.names(op)]
CASES = {op: cases for op, cases in registry.load().items() if op in WITH_KERNELS}


def sample_names(dtypes: tuple[torch.dtype, ...]) -> list[object]:
    """(op, dtype, index of the sample) with readable ids."""
    return [
        pytest.param(op, dtype, i, id=f"{op}-{str(dtype)[6:]}-{sample.label}")
        for op, cases in CASES.items()
        for dtype in dtypes
        for i, sample in enumerate(cases.samples(CPU, dtype))
    ]


@pytest.mark.interpreter
@pytest.mark.parametrize(("op", "dtype", "index"), sample_names((torch.float32, torch.float16)))
def test_interpreted(op: str, dtype: torch.dtype, index: int, use_triton) -> None:
    require_same(CASES[op], CASES[op].samples(CPU, dtype)[index])
    assert use_triton.total() > 0, "the op did not launch a kernel"


@pytest.mark.interpreter
@pytest.mark.parametrize("op", CASES)
def test_compiled_without_a_graph_break(op: str, use_triton) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(CASES[op].function, fullgraph=True, backend="aot_eager", dynamic=False)
    for sample in CASES[op].samples(CPU, torch.float32)[-2:]:
        require_same(CASES[op], sample, compiled)
    assert use_triton.total() > 0


@pytest.mark.gpu
@pytest.mark.parametrize(("op", "dtype", "index"), sample_names((torch.bfloat16, torch.float16)))
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_on_gpu(op: str, dtype: torch.dtype, index: int, compiled: bool, use_triton) -> None:
    cases = CASES[op]
    torch._dynamo.reset()
    function = torch.compile(cases.function, fullgraph=True, dynamic=False) if compiled else cases.function
    require_same(cases, cases.samples(GPU, dtype)[index], function)
    assert use_triton.total() > 0


@pytest.mark.gpu
@pytest.mark.parametrize("op", CASES)
def test_on_another_stream(op: str, use_triton) -> None:
    """Work that is queued on a side stream before the op must be seen by it."""
    cases = CASES[op]
    sample = cases.samples(GPU, torch.bfloat16)[-1]
    expected, _ = run(cases.function, sample)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = [torch.zeros_like(v) if isinstance(v, torch.Tensor) else v for v in sample.arguments]
        torch.cuda._sleep(50_000_000)
        for value, source in zip(late, sample.arguments, strict=True):
            if isinstance(value, torch.Tensor):
                value.copy_(source)
        outputs = cases.function(*late, **sample.keywords)
    stream.synchronize()
    for a, b in zip([outputs] if isinstance(outputs, torch.Tensor) else outputs, expected, strict=True):
        require_close(a, b, b, "side stream")


@pytest.mark.gpu
@pytest.mark.parametrize("op", CASES)
def test_captured_in_a_graph(op: str, use_triton) -> None:
    """Forward and backward are captured once and replayed on other data."""
    cases = CASES[op]
    sample = cases.samples(GPU, torch.bfloat16)[-1]
    arguments = list(sample.arguments)
    for position in sample.differentiable:
        arguments[position] = arguments[position].clone().requires_grad_()
    inputs = [arguments[position] for position in sample.differentiable]

    def step() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        outputs = cases.function(*arguments, **sample.keywords)
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        return outputs, list(torch.autograd.grad(outputs, inputs, chosen)) if inputs else []

    chosen = upstream_gradients(run(cases.function, sample)[0])
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for value in inputs:
            value.mul_(0.5)
    graph.replay()
    for kind, a, b in zip(("output", "gradient"), captured, step(), strict=True):
        for got, expected in zip(a, b, strict=True):
            require_close(got, expected, expected, kind)
