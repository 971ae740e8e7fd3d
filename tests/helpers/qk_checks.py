"""What the norm, rotation and gain of queries and keys are held to, on any device."""

from __future__ import annotations

import torch
from helpers import numerics

from golf_fast.ops.qk_norm_rope import qk_norm_rope, reference
from golf_fast.ops.qk_norm_rope.cases import random_arguments

# (rows, length, heads, kv heads, head dim, pairs). A program takes 8 to 512 tokens: one; less than a program; several,
# the last not full, and programs that span rows; sizes that are no powers of two; partial rotations.
CASES = (
    (1, 1, 1, 1, 8, 4),
    (2, 17, 8, 4, 64, 32),
    (3, 65, 2, 1, 128, 64),
    (1, 130, 4, 1, 64, 8),
    (1, 33, 6, 3, 96, 48),
    (3, 5, 3, 1, 24, 5),
)


def results(function, arguments: tuple[torch.Tensor, ...], grads: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The new q and k, and the gradients of q, k and gain."""
    out = function(*arguments)
    return *out, *torch.autograd.grad(out, arguments[:3], grads)


def require_right(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, function=qk_norm_rope) -> None:
    """Outputs and every gradient obey the tolerance rule, with memory full of NaN before."""
    arguments = random_arguments(shape, device, dtype, sum(shape))
    generator = torch.Generator().manual_seed(1)
    grads = tuple(torch.randn(t.shape, generator=generator).to(t) for t in arguments[:2])
    exact = tuple(t.double() for t in arguments)
    for t in (*arguments[:3], *exact[:3]):
        t.requires_grad_()
    with numerics.poisoned_memory():
        found = results(function, arguments, grads)
    expected = results(reference.qk_norm_rope, exact, tuple(t.double() for t in grads))
    plain = results(reference.qk_norm_rope, arguments, grads)
    for name, *values in zip(("q", "k", "dq", "dk", "dgain"), found, expected, plain, strict=True):
        numerics.require_close(*values, f"{shape} {name}", dtype)
