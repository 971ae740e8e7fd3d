"""Whether a GPU computes an op right: the tolerance rule, before any time is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Function = Callable[..., Any]
"""Returns a tensor or a tuple of tensors."""


def forward_of(function: Function, arguments: Sequence[Any]) -> Callable[[], object]:
    """The op without gradients."""

    def run() -> object:
        with torch.no_grad():
            return function(*arguments)

    return run


def step_of(function: Function, arguments: Sequence[Any], differentiable: Sequence[int]) -> Callable[[], object]:
    """Forward and backward."""
    inputs = [arguments[i].requires_grad_() for i in differentiable]
    with torch.no_grad():
        gradients = [torch.randn_like(out) for out in _outputs(function(*arguments))]
    return lambda: torch.autograd.grad(_outputs(function(*arguments)), inputs, gradients)


def _outputs(returned: Any) -> tuple[torch.Tensor, ...]:
    return (returned,) if isinstance(returned, torch.Tensor) else tuple(returned)


def wrong(function: Function, plain: Function, arguments: Sequence[Any], differentiable: Sequence[int]) -> str | None:
    """None if every output and every gradient of `function` obey `max|out - ref| <= 2 max|low - ref| + atol`.

    `ref` is `plain` on the arguments in float64, `low` is `plain` on the arguments.
    """

    def results(at: Function, double: bool) -> list[torch.Tensor]:
        floats = [isinstance(value, torch.Tensor) and value.is_floating_point() for value in arguments]
        values = [
            (value.detach().double() if double else value.detach().clone()) if isfloat else value
            for value, isfloat in zip(arguments, floats, strict=True)
        ]
        inputs = [values[i].requires_grad_() for i in differentiable]
        outputs = _outputs(at(*values))
        generator = torch.Generator(outputs[0].device).manual_seed(0)
        gradients = [torch.randn(t.shape, device=t.device, generator=generator).to(t.dtype) for t in outputs]
        found = torch.autograd.grad(outputs, inputs, gradients) if inputs else ()
        return [*(out.detach() for out in outputs), *found]

    of_function, of_exact, of_low = results(function, False), results(plain, True), results(plain, False)
    names = [f"output {i}" for i in range(len(of_exact) - len(differentiable))]
    names += [f"gradient of argument {i}" for i in differentiable]
    for name, ours, exact, low in zip(names, of_function, of_exact, of_low, strict=True):
        rounded = exact.to(ours.dtype)
        limit = 2 * (low.double() - exact).abs().max() + 2 * (rounded + 0.3 - 0.3 - rounded).abs().max()
        error = (ours.double() - exact).abs().max()
        if not bool(error <= limit):  # a NaN is never within the limit
            return f"{name} is off by {float(error):.3g}, more than {float(limit):.3g}"
    return None
