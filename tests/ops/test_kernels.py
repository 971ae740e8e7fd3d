"""Every op with Triton kernels against its definition, on the samples of the registry: output and every gradient.

Under the interpreter in float32 and float16 (its bf16 `dot` is wrong), on a GPU in bfloat16 and float16.
"""

from __future__ import annotations

import dataclasses
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


def step_of(cases: registry.Cases, sample: registry.Sample, chosen: list[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs, and gradients of those arguments that require one, for gradients `chosen` of the outputs."""
    outputs = cases.function(*sample.arguments, **sample.keywords)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    inputs = [sample.arguments[position] for position in sample.differentiable]
    return outputs + (list(torch.autograd.grad(outputs, inputs, chosen)) if inputs else [])


def with_leaves(sample: registry.Sample) -> registry.Sample:
    """The sample on tensors of its own, those that have gradients as leaves."""
    arguments = [v.detach().clone() if isinstance(v, torch.Tensor) else v for v in sample.arguments]
    for position in sample.differentiable:
        arguments[position].requires_grad_()
    return dataclasses.replace(sample, arguments=tuple(arguments))


def floats(sample: registry.Sample) -> list[torch.Tensor]:
    return [v for v in sample.arguments if isinstance(v, torch.Tensor) and v.is_floating_point()]


@pytest.mark.gpu
@pytest.mark.parametrize("op", CASES)
def test_on_another_stream(op: str, use_triton) -> None:
    """Work that is queued on a side stream before the op must be seen by it, and by its backward."""
    cases = CASES[op]
    sample = cases.samples(GPU, torch.bfloat16)[-1]
    chosen = upstream_gradients(run(cases.function, sample)[0])
    expected = step_of(cases, with_leaves(sample), chosen)
    late, late_chosen = with_leaves(sample), [torch.zeros_like(g) for g in chosen]
    with torch.no_grad():
        for value in floats(late):
            value.zero_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        with torch.no_grad():
            for value, source in zip((*floats(late), *late_chosen), (*floats(sample), *chosen), strict=True):
                value.copy_(source)
        found = step_of(cases, late, late_chosen)
    stream.synchronize()
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        require_close(a, b, b, f"result {i} on a side stream")


def check_replays(op: str, index: int, device: torch.device, dtype: torch.dtype, record, replays: int) -> None:
    """What `record` made of a step on a sample is replayed on new data, with the results of the replay before
    overwritten.

    `record(step)` returns the step's results and what computes them again in place.
    """
    cases = CASES[op]
    sample = with_leaves(cases.samples(device, dtype)[index])
    chosen = upstream_gradients(run(cases.function, sample)[0])
    kept = [value.detach().clone() for value in floats(sample)]
    captured, replay = record(lambda: step_of(cases, sample, chosen))
    generator = torch.Generator(device).manual_seed(0)
    for i in range(replays):
        with torch.no_grad():
            for value, first in zip(floats(sample), kept, strict=True):
                value.copy_(first * (0.5 + torch.rand((), device=device, generator=generator)).to(first.dtype))
            for g in chosen:
                g.copy_(torch.randn(g.shape, device=device, generator=generator))
            for result in captured:
                result.fill_(float("nan"))
        replay()
        for number, (a, b) in enumerate(zip(captured, step_of(cases, sample, chosen), strict=True)):
            require_close(a, b, b, f"replay {i}, result {number}")


@pytest.mark.gpu
@pytest.mark.parametrize("op", CASES)
def test_captured_in_a_graph(op: str, use_triton) -> None:
    """Forward and backward are captured once and replayed on new data, also after the allocator has moved on."""

    def record(step):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        torch.cuda.empty_cache()
        return captured, graph.replay

    check_replays(op, -1, GPU, torch.bfloat16, record, 20)


@pytest.mark.interpreter
@pytest.mark.parametrize("op", CASES)
def test_replays_are_checked_against_new_data(op: str, use_triton) -> None:
    """The check itself, with a graph that is made up: one that computes again passes, one that stays behind fails."""

    def honest(step):
        captured = [result.detach().clone() for result in step()]

        def replay() -> None:
            for result, new in zip(captured, step(), strict=True):
                result.copy_(new.detach())

        return captured, replay

    def stale(step):
        captured = [result.detach().clone() for result in step()]
        first = [result.clone() for result in captured]
        return captured, lambda: [result.copy_(old) for result, old in zip(captured, first, strict=True)]

    check_replays(op, 0, CPU, torch.float16, honest, 2)
    with pytest.raises(AssertionError, match="replay 0"):
        check_replays(op, 0, CPU, torch.float16, stale, 1)
