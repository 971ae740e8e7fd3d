"""When a low-precision result is right: the tolerance rule, fresh memory full of NaN, and guard bands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

DISTANCE_TO_NAN = float("inf")


def error(out: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest absolute difference in float64; infinite for a NaN, an infinity that the reference lacks, or a shape."""
    if out.shape != reference.shape:
        return DISTANCE_TO_NAN
    if out.numel() == 0:
        return 0.0
    out, reference = out.detach().double(), reference.detach().double()
    difference = torch.where(out == reference, 0.0, (out - reference).abs())
    largest = float(difference.max())
    return largest if largest == largest else DISTANCE_TO_NAN


def rms_error(out: torch.Tensor, reference: torch.Tensor) -> float:
    """The root of the mean squared difference in float64; infinite where `error` is."""
    if error(out, reference) == DISTANCE_TO_NAN:
        return DISTANCE_TO_NAN
    if out.numel() == 0:
        return 0.0
    out, reference = out.detach().double(), reference.detach().double()
    return float(torch.where(out == reference, 0.0, out - reference).square().mean().sqrt())


def absolute_tolerance(reference: torch.Tensor, dtype: torch.dtype) -> float:
    """Twice what adding and subtracting 0.3 in `dtype` does to the reference: the rounding no kernel can avoid."""
    rounded = reference.detach().to(dtype)
    return 2 * error(rounded + 0.3 - 0.3, rounded) if rounded.numel() else 0.0


FEW = 256
"""Elements below which the error of the plain version can be small by luck."""
RMS_FACTOR = 1.1
"""How much larger than the plain version's the root mean square of our errors may be: a kernel rounds less often, and
what it does not compute, or computes twice, shows here in all elements together."""


def require_close(
    out: torch.Tensor,
    reference: torch.Tensor,
    low: torch.Tensor,
    what: str,
    dtype: torch.dtype | None = None,
    terms: float = 0.0,
    *,
    unavoidable: float = 0.0,
    rms_factor: float = RMS_FACTOR,
) -> None:
    """Assert `max|out - ref| <= 2 * max|low - ref| + atol` and `||out - ref|| <= 1.1 * ||low - ref||`.

    A NaN never passes, in any of the three.

    `reference` is float64 (or float32) on upcast inputs, `low` the plain PyTorch version in `dtype`, the precision of
    the inputs (None: that of `out`). Where the plain error says little there is room: for outputs of few elements it
    counts as at least one rounding of the largest value, and in float32, where only the order of sums differs, both
    factors are 4. `terms` is the size of what was summed in float32 to get `out`, for gradients that cancel to zero;
    `unavoidable` is an error that the plain version happens not to make. `rms_factor` is more than 1.1 where an op says
    why.
    """
    dtype = dtype or out.dtype
    plain = error(low, reference)
    assert plain < DISTANCE_TO_NAN, f"{what}: the plain version itself has a NaN or another shape"
    if 0 < reference.numel() < FEW:
        unavoidable = max(unavoidable, torch.finfo(dtype).eps * float(reference.abs().max()))
    plain = max(plain, unavoidable)
    factor = 4 if dtype == torch.float32 else 2
    limit = factor * plain + absolute_tolerance(reference, out.dtype) + 2 * torch.finfo(torch.float32).eps * terms
    found = error(out, reference)
    assert found <= limit, f"{what}: error {found:.3e}, limit {limit:.3e} (plain version {plain:.3e})"
    plain = max(rms_error(low, reference), unavoidable)
    limit = _rms_factor(out, dtype, rms_factor) * plain + 2 * torch.finfo(torch.float32).eps * terms
    found = rms_error(out, reference)
    assert found <= limit, f"{what}: RMS error {found:.3e}, limit {limit:.3e} (plain version {plain:.3e})"


def _rms_factor(out: torch.Tensor, dtype: torch.dtype, asked: float) -> float:
    if dtype == torch.float32:
        return max(4.0, asked)
    if 0 < out.numel() < FEW:
        return max(2.0, asked)
    # The interpreter cuts off what bfloat16 has no room for, which is twice the error of rounding.
    return 2.2 if out.dtype == torch.bfloat16 and out.device.type == "cpu" else asked


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Every `torch.empty` is filled with NaN (integers: their largest value), so what is not written shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]


class GuardBand:
    """A tensor in the middle of a larger allocation; `check` asserts that nothing around it was written."""

    MARGIN = 4096
    VALUE = 77.0

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> None:
        size = int(torch.Size(shape).numel())
        self.buffer = torch.full((size + 2 * self.MARGIN,), self.VALUE, dtype=dtype, device=device)
        self.tensor = self.buffer[self.MARGIN : self.MARGIN + size].view(shape)
        if dtype.is_floating_point:
            self.tensor.fill_(float("nan"))

    def check(self) -> None:
        assert bool((self.buffer[: self.MARGIN] == self.VALUE).all()), "written before the beginning"
        assert bool((self.buffer[-self.MARGIN :] == self.VALUE).all()), "written behind the end"
