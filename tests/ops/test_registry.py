"""What every op must pass, driven by the registry: gradcheck of its definition, opcheck of its operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from golf_fast.ops import backends, extension, registry
from golf_fast.ops.registry import Sample

CPU = torch.device("cpu")
GPU = torch.device("cuda")
CASES = registry.load()


def test_every_op_folder_has_cases() -> None:
    assert sorted(CASES) == registry.op_folders()


@pytest.mark.parametrize("op", registry.op_folders())
def test_samples_repeat_and_cover_the_op(op: str) -> None:
    first, second = (CASES[op].samples(CPU, torch.float32) for _ in range(2))
    assert len(first) >= 2
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a.arguments, b.arguments, rtol=0, atol=0)
        reference = CASES[op].reference(*a.arguments, **a.keywords)
        torch.testing.assert_close(CASES[op].function(*a.arguments, **a.keywords), reference)


@pytest.mark.parametrize("op", registry.op_folders())
def test_reference_passes_gradcheck(op: str) -> None:
    for sample in CASES[op].samples(CPU, torch.float64):
        if not sample.differentiable:
            continue
        arguments = list(sample.arguments)
        for position in sample.differentiable:
            arguments[position] = arguments[position].clone().requires_grad_()

        def call(*inputs: torch.Tensor, arguments=arguments, sample=sample):
            filled = list(arguments)
            for position, value in zip(sample.differentiable, inputs, strict=True):
                filled[position] = value
            return CASES[op].reference(*filled, **sample.keywords)

        torch.autograd.gradcheck(call, tuple(arguments[i] for i in sample.differentiable), fast_mode=True)


@pytest.mark.skipif(extension.missing is not None, reason="calls of its operators are made where the extension is")
def test_every_operator_is_in_operator_calls() -> None:
    called = {call.operator for cases in CASES.values() for call in cases.operator_calls(CPU, torch.float32)}
    names = {
        name.partition("::")[2] for name in torch._C._dispatch_get_all_op_names() if name.startswith("golf_fast::")
    }
    assert {name.partition(".")[0] for name in names} == called


@pytest.mark.interpreter
@pytest.mark.parametrize("op", registry.op_folders())
def test_operators_pass_opcheck(op: str) -> None:
    for call in CASES[op].operator_calls(CPU, torch.float32):
        torch.library.opcheck(getattr(torch.ops.golf_fast, call.operator).default, call.arguments)


@pytest.mark.gpu
@pytest.mark.parametrize("op", registry.op_folders())
def test_operators_pass_opcheck_on_a_gpu(op: str) -> None:
    for call in CASES[op].operator_calls(GPU, torch.bfloat16):
        torch.library.opcheck(getattr(torch.ops.golf_fast, call.operator).default, call.arguments)


def paths() -> list[tuple[str, str]]:
    """Every op with each of its backends that runs on this CPU."""
    return [
        (op, candidate.name)
        for op in registry.op_folders()
        for candidate in backends._candidates[op]
        if candidate.obstacle("cpu") is None
    ]


def spoiled(sample: Sample, position: int) -> list[tuple[str, tuple[Any, ...]]]:
    """The arguments of a sample with one tensor on another device, of another shape, and of another dtype."""
    given = sample.arguments[position]
    wrong = {
        "device": given.to("meta"),
        "shape": given[None],
        "dtype": given.bool(),
    }
    before, after = sample.arguments[:position], sample.arguments[position + 1 :]
    return [(what, (*before, value, *after)) for what, value in wrong.items()]


@pytest.mark.interpreter
@pytest.mark.parametrize(("op", "backend"), paths())
def test_every_path_names_the_argument_that_does_not_fit(
    op: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(backends.VARIABLE, f"{op}={backend}")
    backends.forget()
    sample = CASES[op].samples(CPU, torch.float32)[-1]
    tensors = [i for i, value in enumerate(sample.arguments) if isinstance(value, torch.Tensor)]
    for position in tensors[1:]:  # the first is what the others are compared with
        for what, arguments in spoiled(sample, position):
            with pytest.raises(ValueError, match=r"^\w+: \w+ .*; it must be ") as said:
                CASES[op].function(*arguments, **sample.keywords)
            assert "\n" not in str(said.value), what
    backends.forget()


def test_what_is_compiled_before_any_call_is_compiled_once() -> None:
    backends.forget()
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    sample = CASES["linear_residual"].samples(CPU, torch.float32)[0]
    compiled = torch.compile(CASES["linear_residual"].function, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        compiled(*sample.arguments)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 1
    assert backends._decided, "the answer was not kept"
