"""An op with its Triton kernels against its definition in float64: output and every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from helpers.numerics import poisoned_memory, require_close

from golf_fast.ops.registry import Cases, Sample


def _tensors(result: Any) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else [part for part in result if part is not None]


def _upcast(value: Any) -> Any:
    """float64 for a floating tensor or a dtype; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return torch.float64 if isinstance(value, torch.dtype) else value


def upstream_gradients(outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Random gradients of the outputs, the same at each call."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(out.shape, generator=generator).to(device=out.device, dtype=out.dtype) for out in outputs]


def run(
    function: Callable[..., Any], sample: Sample, gradients: list[torch.Tensor] | None = None, double: bool = False
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Outputs and gradients of one call, for `gradients` of the outputs (None: random ones)."""
    change = _upcast if double else lambda value: value
    arguments = [change(value) for value in sample.arguments]
    keywords = {name: change(value) for name, value in sample.keywords.items()}
    inputs = []
    for position in sample.differentiable:
        arguments[position] = arguments[position].detach().clone().requires_grad_()
        inputs.append(arguments[position])
    outputs = _tensors(function(*arguments, **keywords))
    if not inputs:
        return outputs, []
    chosen = upstream_gradients(outputs) if gradients is None else [change(g) for g in gradients]
    found = torch.autograd.grad(outputs, inputs, chosen)
    return [out.detach() for out in outputs], list(found)


def require_same(cases: Cases, sample: Sample, function: Callable[..., Any] | None = None) -> None:
    """Assert the tolerance rule for the public function (or `function`) on `sample`, in memory full of NaN."""
    with poisoned_memory():
        ours, our_gradients = run(function or cases.function, sample)
    chosen = upstream_gradients(ours)
    low, low_gradients = run(cases.reference, sample, chosen)
    exact, exact_gradients = run(cases.reference, sample, chosen, double=True)
    dtype = next(value.dtype for value in sample.arguments if isinstance(value, torch.Tensor))
    rms = cases.rms_factor
    for i, (a, b, c) in enumerate(zip(ours, exact, low, strict=True)):
        require_close(a, b, c, f"{sample.label}: output {i}", dtype, rms_factor=rms)
    largest = max((float(g.abs().max()) for g in exact_gradients if g.numel()), default=0.0)
    for i, (a, b, c) in enumerate(zip(our_gradients, exact_gradients, low_gradients, strict=True)):
        what = f"{sample.label}: gradient of argument {sample.differentiable[i]}"
        require_close(a, b, c, what, dtype, largest, rms_factor=rms)
