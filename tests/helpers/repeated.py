"""Whether a launch writes the same bits every time: races and what is never written show as a difference."""

from __future__ import annotations

import dataclasses

import torch

from golf_fast.ops.launch import Launch

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _made(like: torch.Tensor, name: str, device: torch.device, seed: int) -> torch.Tensor:
    """Positive numbers around 1, as factors, squares and bounds are; a log-sum-exp that keeps weights small; zeros for
    integers: targets and documents are positions."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype, device=device)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = torch.rand(like.shape, device=device, generator=generator) + 0.5
    drawn = (drawn + 64 if name == "lse" else drawn).to(like.dtype)
    # A view into a packed tensor keeps its strides.
    made = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)
    return made.copy_(drawn)


def size(launch: Launch) -> int:
    """Bytes of its tensors."""
    bases = (getattr(value, "base", value) for value in launch.arguments.values())
    return sum(base.numel() * base.element_size() for base in bases if isinstance(base, torch.Tensor))


def real(launch: Launch, device: torch.device) -> tuple[Launch, dict[str, torch.Tensor]]:
    """A launch with tensors on `device` in place of those on the meta device, and these tensors by argument."""
    arguments, tensors = dict(launch.arguments), {}
    for seed, (name, value) in enumerate(launch.arguments.items()):
        base = getattr(value, "base", None)
        if isinstance(value, torch.Tensor):
            arguments[name] = tensors[name] = _made(value, name, device, seed)
        elif isinstance(base, torch.Tensor):  # a descriptor
            tensors[name] = _made(base, name, device, seed)
            arguments[name] = dataclasses.replace(value, base=tensors[name])
    return dataclasses.replace(launch, arguments=arguments), tensors


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(_BITS[tensor.element_size()])


def differing(launch: Launch, tensors: dict[str, torch.Tensor], times: int) -> str | None:
    """None if the launch writes the same bits `times` times, each time into memory that is full of other numbers."""
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    launch()
    after = {name: t.clone() for name, t in tensors.items() if not torch.equal(_bits(t), _bits(before[name]))}
    if not after:
        return "it writes nothing"
    for i in range(1, times):
        for name in after:
            tensors[name].copy_(before[name])
        launch()
        for name, first in after.items():
            if not torch.equal(_bits(tensors[name]), _bits(first)):
                return f"run {i + 1} wrote another {name} than the first"
    return None
