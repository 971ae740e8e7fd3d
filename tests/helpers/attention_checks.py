"""What window attention is held to, on any device: the cases, and the comparison with the float64 definition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from helpers import numerics

from golf_fast.ops.window_attention import reference, window_attention
from golf_fast.ops.window_attention.cases import cumulative, random_qkv

RESULTS = ("out", "dq", "dk", "dv")


@dataclass(frozen=True)
class Case:
    """One call. `ends`: where documents but the last end; None: no documents. `asked`: the bound lies on the device."""

    length: int
    window: int | None = None
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 32
    rows: int = 1
    ends: tuple[int, ...] | None = None
    logit_bound: float | None = None
    scale: float = 1.0
    asked: bool = False

    def __str__(self) -> str:
        name = f"{self.rows}x{self.length}-{self.heads}/{self.kv_heads}x{self.head_dim}-window-{self.window}"
        name += f"-documents-{len(self.ends) + 1}" if self.ends is not None else ""
        name += f"-bound-{self.logit_bound}" if self.logit_bound is not None else ""
        name += "-asked" if self.asked else ""
        return name + (f"-scale-{self.scale}" if self.scale != 1 else "")

    def qkv(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        shape = (self.rows, self.length, self.heads, self.kv_heads, self.head_dim)
        q, k, v = random_qkv(shape, device, torch.float32, seed=self.length)
        return tuple((t * s).to(dtype).requires_grad_() for t, s in ((q, self.scale), (k, self.scale), (v, 1.0)))

    def cu_seqlens(self, device: torch.device) -> torch.Tensor | None:
        return None if self.ends is None else cumulative(self.ends, self.length, device)


# Tiles hold 128 lanes of positions and heads and 32 to 128 keys, so lengths up to 130 have one to five tiles, whole and
# not, and 200 also has inner ones without a mask.
CASES = (
    Case(1, rows=2),
    Case(17),
    Case(65, heads=4, kv_heads=2),
    Case(130, rows=2, head_dim=64),
    Case(200, head_dim=64, heads=1),
    Case(65, head_dim=128, heads=4),
    Case(17, window=1),
    Case(130, window=1),
    Case(130, window=64, head_dim=64),
    Case(130, window=63),
    Case(130, window=65, heads=4),
    Case(200, window=40, heads=3, head_dim=64),
    Case(200, window=129),
    Case(200, window=127),
    Case(200, window=159),
    Case(130, window=10**6),
    Case(70, heads=8, window=33),
    Case(130, ends=(1, 2, 3, 64, 65, 128)),
    Case(130, ends=()),
    Case(200, window=20, ends=(1, 2, 70, 130), heads=4, head_dim=64),
    Case(200, logit_bound=40.0, head_dim=64),
    Case(200, logit_bound=20.0, window=70, ends=(100,)),
    Case(65, logit_bound=1000.0, scale=6.0),
    Case(200, logit_bound=40.0, asked=True, window=90),
    Case(65, logit_bound=1000.0, scale=6.0, asked=True),
    Case(65, scale=100.0),
    Case(65, scale=1e-4, window=9),
)


def results(function, case: Case, inputs: tuple[torch.Tensor, ...], grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Output and gradients of q, k and v."""
    cu_seqlens = case.cu_seqlens(inputs[0].device)
    bound = torch.tensor(case.logit_bound, device=inputs[0].device) if case.asked else case.logit_bound
    out = function(*inputs, case.window, cu_seqlens=cu_seqlens, logit_bound=bound)
    return out, *torch.autograd.grad(out, inputs, grad)


def require_right(case: Case, device: torch.device, dtype: torch.dtype, function=window_attention) -> None:
    """Output and every gradient obey the tolerance rule, with memory full of NaN before."""
    inputs = case.qkv(device, dtype)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(inputs[0].shape, generator=generator).to(device=device, dtype=dtype)
    with numerics.poisoned_memory():
        found = results(function, case, inputs, grad)
    exact = tuple(t.detach().double().requires_grad_() for t in inputs)
    expected = results(reference.window_attention, case, exact, grad.double())
    plain = results(reference.window_attention, case, inputs, grad)
    for name, value, exact_value, plain_value in zip(RESULTS, found, expected, plain, strict=True):
        unavoidable = _unavoidable(case, name, exact_value, dtype)
        numerics.require_close(value, exact_value, plain_value, f"{case} {name}", dtype, unavoidable=unavoidable)


def _unavoidable(case: Case, name: str, exact: torch.Tensor, dtype: torch.dtype) -> float:
    """An error that the plain version happens not to make, as an absolute number.

    Where a query gives all its weight to one key its gradient is the difference of two equal products, one of them of
    the rounded output, times a key. A constant maximum makes exponents as large as twice the bound, in float32. And a
    backward pass that computes large scores again, in sums of another order than those of the forward pass, has weights
    that are off by the rounding of a score: these are normal, and hardly any exceeds 4 before it is scaled.
    """
    if exact.abs().max() < 1e-6:
        return 8 * torch.finfo(dtype).eps * case.scale
    exponent = case.logit_bound or 0.0
    if name != "out" and case.scale > 1:
        exponent = max(exponent, 4 * case.scale**2)
    return 2 * exponent * torch.finfo(torch.float32).eps * float(exact.detach().abs().max())
