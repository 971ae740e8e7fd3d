"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.residual_mix import reference, residual_mix
from golf_fast.ops.rms_norm.reference import EPS

# shape of x, branch, skip: one row; no power of two, so that every mask is used; more rows than one round of the
# interpreter's programs takes; each of branch and skip without the other
SHAPES = (
    ((1, 1, 8), True, True),
    ((2, 17, 24), True, False),
    ((3, 9, 300), True, True),
    ((5, 100), False, True),
    ((2, 3, 40), False, False),
)

Arguments = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None
]


def random_arguments(
    shape: tuple[int, ...], branch: bool, skip: bool, device: torch.device, dtype: torch.dtype, seed: int
) -> Arguments:
    """x, x0, mix, branch, skip and skip_weight; rows differ in size, and no weight is near 0 or 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    def cast(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=device, dtype=dtype)

    x, x0 = (cast(draw(*shape) * draw(*shape[:-1], 1).exp()) for _ in range(2))
    mix = cast(0.5 + draw(2, shape[-1]) / 4)
    of_branch = cast(draw(*shape)) if branch else None
    of_skip, weight = (cast(draw(*shape)), cast(0.7 + draw(shape[-1]) / 4)) if skip else (None, None)
    return x, x0, mix, of_branch, of_skip, weight


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for seed, (shape, branch, skip) in enumerate(SHAPES):
        arguments = random_arguments(shape, branch, skip, device, dtype, seed)
        label = "x".join(map(str, shape)) + (" with branch" if branch else "") + (" with skip" if skip else "")
        made.append(Sample(label, arguments, {}, tuple(i for i, t in enumerate(arguments) if t is not None)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    calls = []
    for shape, branch, skip in (SHAPES[1], *SHAPES[3:]):
        x, x0, mix, of_branch, of_skip, weight = random_arguments(shape, branch, skip, device, dtype, 0)
        stream, mixed, normed, rstd = torch.ops.golf_fast.residual_mix_forward(x, x0, mix, of_branch, of_skip, weight)
        saved = stream if branch or skip else x
        grads = mixed.cos(), normed.cos(), saved.cos() if branch else None
        calls.append(OperatorCall("residual_mix_backward", (*grads, saved, x0, mix, rstd, of_skip, weight)))
        leaves = [None if t is None else t.clone().requires_grad_() for t in (x, x0, mix, of_branch, of_skip, weight)]
        calls.append(OperatorCall("residual_mix_forward", tuple(leaves)))
    return calls


def builds() -> list[Build]:
    return list(_builds())


def _builds() -> Iterator[Build]:
    for arch in (90, 80):
        # A block of the first half, whose stream is a skip of a later one; one of the second; nothing to add.
        for branch, skip, out in ((True, False, True), (True, True, False), (False, False, False)):
            yield from _builds_of(arch, 512, branch, skip, out)
        # 4, 8 and 16 warps; no power of two; with all that there can be, which takes most registers.
        for width in (8, 384, 2048, 4096):
            yield from _builds_of(arch, width, branch=True, skip=True, out=True)


def _builds_of(arch: int, width: int, branch: bool, skip: bool, out: bool) -> Iterator[Build]:
    from golf_fast.ops.residual_mix import triton

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def like_x() -> torch.Tensor:
        return empty(48, 2048, width)

    x, x0, mixed, normed, d_mixed, d_normed, d_stream, d_x0 = (like_x() for _ in range(8))
    mix, rstd = empty(2, width), empty(48, 2048, dtype=torch.float32)
    of_branch = like_x() if branch else None
    stream = like_x() if branch or skip else None
    of_skip, weight, d_skip = (like_x(), empty(width), like_x()) if skip else (None, None, None)
    d_out = like_x() if out else None
    forward = triton.forward(x, x0, mix, of_branch, of_skip, weight, EPS, stream, mixed, normed, rstd)
    label = f"width {width}" + " with branch" * branch + " with skip" * skip
    yield Build(f"forward {label}", arch, forward, tensor_cores=False)
    parts = empty(triton.programs(x, processors=132), 3 if skip else 2, width, dtype=torch.float32)
    backward = triton.backward(
        d_mixed, d_normed, d_out, x, x0, mix, rstd, of_skip, weight, d_stream, d_x0, d_skip, parts
    )
    label = f"width {width}" + " with d_out" * out + " with skip" * skip
    yield Build(f"backward {label}", arch, backward, tensor_cores=False)


CASES = Cases(residual_mix, reference.residual_mix, samples, operator_calls, builds)
