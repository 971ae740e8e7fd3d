"""Whether a GPU computes an op right: the tolerance rule, before any time is taken."""

from __future__ import annotations

import functools
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


def backward_of(
    function: Function, arguments: Sequence[Any], differentiable: Sequence[int], gradients: Sequence[torch.Tensor]
) -> Callable[[], object]:
    """The backward by itself, of a forward that runs once before."""
    out: list[tuple[torch.Tensor, ...]] = []
    inputs = [arguments[i] for i in differentiable]

    def run() -> object:
        if not out:
            out.append(_outputs(function(*arguments)))
        return torch.autograd.grad(out[0], inputs, gradients, retain_graph=True)

    return run


def step_of(function: Function, arguments: Sequence[Any], differentiable: Sequence[int]) -> Callable[[], object]:
    """Forward and backward. Nothing is run, nor compiled, before it is called: many runs leave most peers out."""
    inputs = [arguments[i].requires_grad_() for i in differentiable]
    gradients: list[torch.Tensor] = []

    def run() -> object:
        outputs = _outputs(function(*arguments))
        if not gradients:
            gradients.extend(torch.randn_like(out) for out in outputs)
        return torch.autograd.grad(outputs, inputs, gradients)

    return run


def _outputs(returned: Any) -> tuple[torch.Tensor, ...]:
    return (returned,) if isinstance(returned, torch.Tensor) else tuple(returned)


FEW = 256
"""Elements below which the mean square of the plain version's errors can be small by luck: it counts as one rounding
of the largest number at least."""
RMS_FACTOR = 1.1


class Gate:
    """Whether functions compute what `plain` does: every output and every gradient, on the same arguments.

    The rule is `max|out - ref| <= 2 max|low - ref| + atol` and `||out - ref|| <= rms_factor ||low - ref||`, where `ref`
    is `plain` on the arguments in float64 and `low` is `plain` on the arguments, both computed once.
    """

    def __init__(
        self, plain: Function, arguments: Sequence[Any], differentiable: Sequence[int], rms_factor: float = RMS_FACTOR
    ) -> None:
        self.plain, self.arguments, self.differentiable = plain, arguments, differentiable
        self.rms_factor = rms_factor

    @functools.cached_property
    def exact(self) -> list[torch.Tensor]:
        return self._results(self.plain, True)

    @functools.cached_property
    def low(self) -> list[torch.Tensor]:
        return self._results(self.plain, False)

    def wrong(self, function: Function) -> str | None:
        """None if `function` obeys the rule, else what is wrong."""
        found = self._results(function, False)
        names = [f"output {i}" for i in range(len(self.exact) - len(self.differentiable))]
        names += [f"gradient of argument {i}" for i in self.differentiable]
        for name, ours, exact, low in zip(names, found, self.exact, self.low, strict=True):
            if problem := beyond(ours, exact, low, self.rms_factor):
                return f"{name} is {problem}"
        return None

    def _results(self, function: Function, double: bool) -> list[torch.Tensor]:
        floats = [isinstance(value, torch.Tensor) and value.is_floating_point() for value in self.arguments]
        values = [
            (value.detach().double() if double else value.detach().clone()) if isfloat else value
            for value, isfloat in zip(self.arguments, floats, strict=True)
        ]
        inputs = [values[i].requires_grad_() for i in self.differentiable]
        outputs = _outputs(function(*values))
        generator = torch.Generator(outputs[0].device).manual_seed(0)
        gradients = [torch.randn(t.shape, device=t.device, generator=generator).to(t.dtype) for t in outputs]
        found = torch.autograd.grad(outputs, inputs, gradients) if inputs else ()
        return [*(out.detach() for out in outputs), *found]


def beyond(ours: torch.Tensor, exact: torch.Tensor, low: torch.Tensor, rms_factor: float = RMS_FACTOR) -> str | None:
    """None if `ours` is within the rule, else by how much it is off. A NaN is never within."""
    difference, plain = ours.double() - exact.double(), low.double() - exact.double()
    rounded = exact.to(ours.dtype)
    error = float(difference.abs().max())
    limit = 2 * float(plain.abs().max()) + 2 * float((rounded + 0.3 - 0.3 - rounded).abs().max())
    if not error <= limit:
        return f"off by {error:.3g}, more than {limit:.3g}"
    error, mean, factor = _rms(difference), _rms(plain), rms_factor
    if ours.numel() < FEW:
        mean, factor = max(mean, torch.finfo(ours.dtype).eps * float(exact.abs().max())), max(factor, 2.0)
    if not error <= factor * mean:
        return f"off by {error:.3g} in the root mean square, more than {factor:g} x {mean:.3g}"
    return None


def _rms(tensor: torch.Tensor) -> float:
    return float(tensor.square().mean().sqrt())


def wrong(
    function: Function,
    plain: Function,
    arguments: Sequence[Any],
    differentiable: Sequence[int],
    rms_factor: float = RMS_FACTOR,
) -> str | None:
    """As `Gate.wrong`, for one function."""
    return Gate(plain, arguments, differentiable, rms_factor).wrong(function)
