"""What every op must pass, driven by the registry: gradcheck of its definition, opcheck of its operators."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from golf_fast.ops import registry

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


def test_every_operator_is_in_operator_calls() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed, and most operators are defined beside their kernels")
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
