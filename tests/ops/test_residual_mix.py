"""The beginning of a block beyond the samples of the registry: bounds, blocks, what is used of the outputs, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from helpers.compare import require_same
from helpers.numerics import GuardBand
from torch._dynamo.testing import CompileCounterWithBackend

from golf_fast.ops.launch import launches
from golf_fast.ops.registry import Sample
from golf_fast.ops.residual_mix import operators, reference, residual_mix
from golf_fast.ops.residual_mix.cases import CASES, Arguments, random_arguments

triton = pytest.importorskip("golf_fast.ops.residual_mix.triton", reason="triton is not installed")

CPU, GPU = torch.device("cpu"), torch.device("cuda")
interpreter = pytest.mark.interpreter
BOTH = {"residual_mix": 1, "residual_mix.backward": 1}
NAMES = ("x", "x0", "mix", "branch", "skip", "skip_weight")
Reduce = Callable[[tuple[torch.Tensor, ...]], torch.Tensor]


def gradients(
    function: Callable[..., tuple[torch.Tensor, ...]], arguments: Sequence[torch.Tensor | None], reduce: Reduce
) -> list[torch.Tensor | None]:
    """Of everything that is given; None for what is not, and for what the result does not depend on."""
    leaves = [None if t is None else t.clone().requires_grad_() for t in arguments]
    reduce(function(*leaves)).backward()
    return [None if t is None else t.grad for t in leaves]


def require_near(found: Sequence[torch.Tensor | None], expected: Sequence[torch.Tensor | None]) -> None:
    """To float32 but for the order of sums; what is not there counts as zeros."""
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        if a is None or b is None:
            assert not any(t is not None and t.any() for t in (a, b)), i
            continue
        assert a.shape == b.shape, i
        error, scale = float((a.double() - b).abs().max()), float(b.abs().max())
        assert error <= 2e-5 * scale, f"{i}: off by {error:.3g} of {scale:.3g}"  # a NaN never is


def upcast(arguments: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    return [None if t is None else t.double() for t in arguments]


def require_same_gradients(arguments: Arguments, reduce: Reduce) -> None:
    """Of the op and, in float64, of its definition."""
    found = gradients(residual_mix, arguments, reduce)
    require_near(found, gradients(reference.residual_mix, upcast(arguments), reduce))


def weighted(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Every output with another gradient for each of its numbers."""
    return sum((i + 2) * (out * out.detach().sin()).sum() for i, out in enumerate(outputs))


def check_bounds(arguments: Arguments, with_out: bool, block: object = None, back: object = None) -> None:
    """The kernels alone: all of every output is written and nothing else, and it is what the definition gives."""
    x, x0, mix, branch, skip, weight = arguments
    adds = branch is not None or skip is not None
    bands: dict[str, GuardBand] = {}

    def band(name: str, *shape: int, dtype: torch.dtype = x.dtype) -> torch.Tensor:
        bands[name] = GuardBand(shape, dtype, x.device)
        return bands[name].tensor

    stream = band("stream", *x.shape) if adds else None
    mixed, normed = band("mixed", *x.shape), band("normed", *x.shape)
    rstd = band("rstd", *x.shape[:-1], dtype=torch.float32)
    triton.forward(x, x0, mix, branch, skip, weight, reference.EPS, stream, mixed, normed, rstd, block)()
    programs = triton.programs(x, back)
    parts = band("parts", programs, 2 if skip is None else 3, x.shape[-1], dtype=torch.float32)
    d_stream, d_x0 = band("d_stream", *x.shape), band("d_x0", *x.shape)
    d_skip = None if skip is None else band("d_skip", *x.shape)
    incoming = [t.cos() for t in (mixed, normed)] + [x.cos() if with_out else None]
    saved = x if stream is None else stream
    triton.backward(*incoming, saved, x0, mix, rstd, skip, weight, d_stream, d_x0, d_skip, parts, back)()
    for name, each in bands.items():
        each.check()
        assert not each.tensor.isnan().any(), name
    if x.dtype != torch.float32:
        return

    def reduce(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        grads = incoming[2], *incoming[:2]
        return sum((out * grad).sum() for out, grad in zip(outputs, grads, strict=True) if grad is not None)

    sums = parts.sum(0)
    found = [d_stream, d_x0, sums[:2], None if branch is None else d_stream, d_skip, None if skip is None else sums[2]]
    require_near(found, gradients(reference.residual_mix, upcast(arguments), reduce))
    require_near([saved, mixed, normed], reference.residual_mix(*upcast(arguments)))


@interpreter
@pytest.mark.parametrize("given", ["branch", "skip", "both", "neither"])
@pytest.mark.parametrize("shape", [(1, 8), (1, 27, 300), (5, 1)], ids=str)
def test_all_of_the_outputs_is_written_and_nothing_around_them(shape: tuple[int, ...], given: str, use_triton) -> None:
    """One row; more blocks than programs, the last not full; rows of one number."""
    branch, skip = given in ("branch", "both"), given in ("skip", "both")
    arguments = random_arguments(shape, branch, skip, CPU, torch.float32, 0)
    for with_out in (False, True):
        check_bounds(arguments, with_out)


@interpreter
@pytest.mark.parametrize("rows", [1, 2, 32])
@pytest.mark.parametrize("programs", [1, 5])
def test_any_block_gives_the_same(rows: int, programs: int, use_triton) -> None:
    """23 rows in 1 to 23 blocks: one program takes them all, some take more of them than others, each takes one."""
    block = triton.Block(rows, 4, programs)
    arguments = random_arguments((23, 24), True, True, CPU, torch.float32, 0)
    assert triton.programs(arguments[0], block) == min(-(-23 // rows), 3 * programs)
    check_bounds(arguments, True, triton.Block(rows, 4), block)


def test_programs_of_the_backward_run_at_once() -> None:
    """What they leave each thread is what the compiler gets as its limit; the compile gates say that nothing spills."""
    warps = set()
    for width in (1, 8, 100, 512, 513, 1024, 2048, 4096):
        block = triton.choose_block(width, backward=True)
        warps.add(block.warps)
        assert block.registers % 8 == 0
        assert block.registers * 32 * block.warps * block.programs <= 65536
        assert block.registers >= 128
        assert block.rows * width <= 8 * 32 * block.warps
    built = [build.launch for build in CASES.builds() if build.arch == 90 and build.launch.op.endswith("backward")]
    assert {launch.num_warps for launch in built} == warps == {4, 8, 16}
    assert {launch.max_registers for launch in built} == {128}


@interpreter
@pytest.mark.parametrize("used", [0, 1, 2], ids=["stream", "mixed", "normed"])
@pytest.mark.parametrize("branch", [True, False], ids=["with branch", "without"])
def test_one_output_is_used(used: int, branch: bool, monkeypatch: pytest.MonkeyPatch, use_triton) -> None:
    """The gradient of a stream that nothing used is no tensor of zeros: the kernel does not read one."""
    seen: list[torch.Tensor | None] = []
    real = operators.backward

    def watched(*given: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        seen.append(given[2])
        return real(*given)

    monkeypatch.setattr(operators, "backward", watched)
    arguments = random_arguments((2, 3, 40), branch, True, CPU, torch.float32, 0)

    def reduce(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return weighted(outputs[used : used + 1])

    require_same_gradients(arguments, reduce)
    assert [d_out is None for d_out in seen] == [used != 0]
    assert use_triton == BOTH


@interpreter
@pytest.mark.parametrize(
    "reduce",
    [
        lambda outputs: sum(out.sum() for out in outputs),
        lambda outputs: sum((out.mT.flatten() * torch.linspace(0, 1, out.numel())).sum() for out in outputs),
    ],
    ids=["expanded", "strided"],
)
def test_a_gradient_of_any_layout_is_taken(reduce: Reduce, use_triton) -> None:
    require_same_gradients(random_arguments((2, 7, 24), True, True, CPU, torch.float32, 0), reduce)


@interpreter
def test_stream_is_x_where_nothing_is_added(use_triton) -> None:
    arguments = random_arguments((2, 3, 40), False, False, CPU, torch.float32, 0)
    assert residual_mix(*arguments)[0] is arguments[0]
    require_same_gradients(arguments, weighted)


@interpreter
def test_gradients_of_x_and_branch_are_two_tensors(use_triton) -> None:
    """The kernel writes one for both, and an optimizer may write into its own."""
    found = gradients(residual_mix, random_arguments((2, 3, 40), True, False, CPU, torch.float32, 0), weighted)
    torch.testing.assert_close(found[0], found[3], rtol=0, atol=0)
    found[0].zero_()
    assert found[3].any()


@interpreter
def test_no_rows(use_triton) -> None:
    arguments = random_arguments((2, 0, 24), True, True, CPU, torch.float32, 0)
    outputs = residual_mix(*arguments)
    assert [t.shape for t in outputs] == [(2, 0, 24)] * 3
    found = gradients(residual_mix, arguments, weighted)
    assert [t.shape for t in found] == [t.shape for t in arguments]
    assert not found[2].any()
    assert not found[5].any()
    assert not use_triton


@interpreter
def test_the_widest_rows(use_triton) -> None:
    arguments = random_arguments((2, 4096), True, True, CPU, torch.float32, 0)
    require_same(CASES, Sample("2x4096", arguments, {}, tuple(range(6))))
    assert use_triton == BOTH


@interpreter
@pytest.mark.parametrize("scale", [1e-20, 1e-4, 1e15])
def test_extreme_values(scale: float, use_triton) -> None:
    """Far below the epsilon of the norm (it divides by its root), around it, and squares near the largest number."""
    x, x0, mix, branch, skip, weight = random_arguments((1, 5, 40), True, True, CPU, torch.float32, 0)
    arguments = (x * scale, x0 * scale, mix, branch * scale, skip * scale, weight)
    require_near(residual_mix(*arguments), reference.residual_mix(*upcast(arguments)))
    require_same_gradients(arguments, lambda outputs: (outputs[2] * torch.linspace(-1, 1, 200).view(1, 5, 40)).sum())


@interpreter
def test_zeros_stay_zeros_with_finite_gradients(use_triton) -> None:
    x, x0, mix, branch, skip, weight = random_arguments((1, 5, 40), True, True, CPU, torch.float32, 0)
    arguments = (x * 0, x0 * 0, mix, branch * 0, skip * 0, weight)
    assert not any(t.any() for t in residual_mix(*arguments))
    found = gradients(residual_mix, arguments, lambda outputs: sum(t.sum() for t in outputs))
    assert all(t.isfinite().all() for t in found)
    assert found[0].all()


@interpreter
def test_each_output_is_rounded_once(use_triton) -> None:
    """Each from numbers that were not rounded before. In float16: the interpreter cuts bfloat16 off."""
    arguments = random_arguments((8, 40), True, True, CPU, torch.float16, 0)
    x, x0, mix, branch, skip, weight = upcast(arguments)
    stream, mixed, normed = residual_mix(*arguments)
    right_stream = x + branch + weight * skip
    right_mixed = mix[0] * right_stream + mix[1] * x0
    exact = {
        "stream": (stream, right_stream),
        "mixed": (mixed, right_mixed),
        "normed": (normed, torch.nn.functional.rms_norm(right_mixed, (40,), eps=reference.EPS)),
    }
    for name, (found, right) in exact.items():
        half = 2.0**-11 * torch.exp2(torch.floor(torch.log2(right.abs())))
        assert bool(((found.double() - right).abs() <= half * 1.01).all()), name


@interpreter
def test_the_same_bits_every_time(use_triton) -> None:
    check_same_bits(random_arguments((1, 27, 300), True, True, CPU, torch.float16, 0))


def check_same_bits(arguments: Arguments) -> None:
    first, second = (gradients(residual_mix, arguments, weighted) for _ in range(2))
    for name, a, b in zip(NAMES, first, second, strict=True):
        assert (a is None and b is None) or torch.equal(a, b), name


@interpreter
def test_compiled_whole_for_any_length(use_triton) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(residual_mix, backend=counter, fullgraph=True, dynamic=True)
    for length in (8, 17):
        arguments = random_arguments((2, length, 24), True, True, CPU, torch.float32, 0)
        both = [gradients(function, arguments, weighted) for function in (residual_mix, compiled)]
        for a, b in zip(*both, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert counter.frame_count == 1


def given(**changes: torch.Tensor | None) -> dict[str, torch.Tensor | None]:
    return dict(zip(NAMES, random_arguments((2, 3, 8), True, True, CPU, torch.float32, 0), strict=True)) | changes


@interpreter
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.tensor(1.0)}, r"x is \(\); it must be \[..., D\]"),
        ({"x0": torch.zeros(3, 8)}, r"x0 is \(3, 8\); it must be \(2, 3, 8\), as x is \(2, 3, 8\)"),
        ({"mix": torch.zeros(8, 2)}, r"mix is \(8, 2\); it must be \(2, 8\), as x is \(2, 3, 8\)"),
        ({"branch": torch.zeros(2, 3, 9)}, r"branch is \(2, 3, 9\); it must be \(2, 3, 8\)"),
        ({"skip": torch.zeros(2, 1, 8)}, r"skip is \(2, 1, 8\); it must be \(2, 3, 8\)"),
        ({"skip_weight": torch.zeros(1)}, r"skip_weight is \(1,\); it must be \(8,\)"),
        ({"skip_weight": None}, r"skip_weight is missing; it must be given where skip is, and only there"),
        ({"skip": None}, r"skip_weight is given; it must be given where skip is, and only there"),
        ({"mix": torch.zeros(2, 8).half()}, r"mix is torch.float16; it must be the dtype of x, torch.float32"),
        ({"skip": torch.zeros(2, 3, 8, device="meta")}, r"skip is on meta; it must be where x is, cpu"),
        ({"x": torch.zeros(2, 3, 16)[..., ::2]}, r"x has strides \(48, 16, 2\); it must be contiguous"),
        ({"branch": torch.zeros(3, 2, 8).transpose(0, 1)}, r"branch has strides .*; it must be contiguous"),
        ({"mix": torch.zeros(8, 2).T}, r"mix has strides .*; it must be contiguous"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, torch.Tensor | None], message: str, use_triton) -> None:
    with pytest.raises(ValueError, match=f"^residual_mix: {message}"):
        residual_mix(**given(**changes))
    assert not use_triton


@interpreter
@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 8), torch.float64, "x is torch.float64; it must be torch.float32 or .*=residual_mix=reference takes more"),
        ((1, 4097), torch.float32, "the last dimension of x is 4097; it must be 1 to 4096; .*=reference takes more"),
        ((1, 0), torch.float32, "the last dimension of x is 0; it must be 1 to 4096"),
    ],
)
def test_what_the_kernels_do_not_take(shape: tuple[int, ...], dtype: torch.dtype, message: str, use_triton) -> None:
    with pytest.raises(ValueError, match=message):
        residual_mix(*random_arguments(shape, True, True, CPU, dtype, 0))
    assert not use_triton


@interpreter
def test_more_rows_than_the_kernels_count(use_triton) -> None:
    x = torch.zeros(1, 1).expand(2**30 + 1, 1)
    with pytest.raises(ValueError, match=r"x is \(1073741825, 1\); it must be of at most 2\^30 rows"):
        residual_mix(x, x, torch.zeros(2, 1))
    assert not use_triton


def test_on_a_cpu_the_definition_runs_unless_kernels_are_asked_for() -> None:
    x, x0, mix, *rest = random_arguments((1, 3, 5000), True, True, CPU, torch.float64, 0)
    before = launches.total()
    for ours, plain in zip(residual_mix(x, x0, mix, *rest), reference.residual_mix(x, x0, mix, *rest), strict=True):
        assert torch.equal(ours, plain)
    assert launches.total() == before


@pytest.mark.gpu
@pytest.mark.parametrize(("branch", "skip"), [(True, False), (True, True), (False, False)])
def test_on_a_gpu(branch: bool, skip: bool, use_triton) -> None:
    """More blocks than the largest GPU has programs, the last not full: right, in bounds, the same bits every time."""
    for dtype in (torch.bfloat16, torch.float32):
        arguments = random_arguments((3, 1111, 512), branch, skip, GPU, dtype, 0)
        differentiable = tuple(i for i, t in enumerate(arguments) if t is not None)
        require_same(CASES, Sample("3x1111x512", arguments, {}, differentiable))
        check_bounds(arguments, with_out=not skip)
        check_same_bits(arguments)
