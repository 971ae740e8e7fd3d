"""relu2_mlp beyond the samples of the registry: every launch configuration, extreme values, what is saved, errors."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import GuardBand, require_close

from golf_fast.ops import relu2_mlp
from golf_fast.ops.launch import architecture
from golf_fast.ops.relu2_mlp import reference

pytest.importorskip("triton")

from golf_fast.ops.relu2_mlp import triton as kernels

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, where the extremes overflow
interpreter = pytest.mark.interpreter
# warps and stages are nothing to the interpreter
CONFIGURATIONS = {
    f"{tiles.rows}x{tiles.columns}x{tiles.depth} {'TMA' if tiles.tma else 'pointers'}": tiles
    for choices in kernels.TILES.values()
    for tiles in choices
}


def random(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def check_configuration(tiles: kernels.Tiles, slope: float, device: str, dtype: torch.dtype) -> None:
    """Both kernels fill their outputs with the right values, and write nothing around them."""
    # 200 tokens: two row blocks, the second partial; 320 columns: not a multiple of any tile; 3 programs: several tiles
    tokens, width, hidden = 200, 128, 320
    shapes = ((tokens, width), (tokens, width), (hidden, width), (width, hidden))
    scales = (1.0, 1.0, 0.1, 0.1)
    x, g, w_up, w_down = (
        random(*shape, seed=i, scale=scale, dtype=dtype).to(device)
        for i, (shape, scale) in enumerate(zip(shapes, scales, strict=True))
    )
    rstd = (random(tokens, seed=4).abs() + 0.5).to(device)
    exact = rstd.double()[:, None] * (x.double() @ w_up.double().T)
    active = torch.where(exact > 0, exact, slope * exact)
    dpre = 2 * active * torch.where(exact > 0, 1.0, slope) * (g.double() @ w_down.double())
    rounding = 1e-4 if dtype == torch.float32 else 2e-2

    def require(band: GuardBand, out: torch.Tensor, expected: torch.Tensor) -> None:
        atol = rounding * float(expected.abs().max())
        torch.testing.assert_close(out.double(), expected, rtol=rounding, atol=atol)
        band.check()

    post, pre = (GuardBand((tokens, hidden), dtype, device) for _ in range(2))
    kernels.up_launch(x, w_up, rstd, post.tensor, pre.tensor if slope else None, slope, tiles, 3)()
    require(post, post.tensor, active.square())
    if slope:
        require(pre, pre.tensor, exact)

    change = GuardBand((tokens, hidden), dtype, device)
    saved = (exact if slope else active.square()).to(dtype)
    kernels.dpre_launch(g, w_down, saved, rstd, change.tensor, slope, tiles, 3)()
    require(change, change.tensor, dpre * rstd.double()[:, None])


@interpreter
@pytest.mark.parametrize("tiles", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_each_configuration_writes_its_outputs_and_nothing_else(tiles: kernels.Tiles, slope: float) -> None:
    check_configuration(tiles, slope, "cpu", torch.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_each_configuration_of_this_gpu(slope: float) -> None:
    arch = architecture(torch.device("cuda", 0))
    for kernel in ("up", "dpre"):
        for tiles in kernels.TILES[kernel, arch]:
            check_configuration(tiles, slope, "cuda", torch.bfloat16)


def test_heuristic_returns_only_what_is_compiled_and_uses_each() -> None:
    for (kernel, arch), choices in kernels.TILES.items():
        found = {
            kernels.choose_tiles(kernel, arch, tokens, hidden, programs)
            for tokens in (1, 64, 2048, 4096, 8192, 98304, 1 << 20)
            for hidden in (64, 1536, 8192)
            for programs in (1, 3, 40, 132)
        }
        assert found == set(choices)


def test_seed_shape_uses_the_largest_tile() -> None:
    assert kernels.choose_tiles("up", 90, 98304, 1536, 132) == kernels.Tiles(128, 256, 64, 8, 4, tma=True)
    assert kernels.choose_tiles("dpre", 90, 98304, 1536, 132) == kernels.Tiles(128, 256, 64, 8, 3, tma=True)


@interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e4, 0.0])
def test_extreme_values_come_through(value: float, use_triton) -> None:
    """A NaN in one token reaches that token's output and no other; zeros have gradient zero, not NaN."""
    x = random(70, 64)
    x[3] = 0.0
    x[3, 5] = value
    w_up, w_down = random(64, 64, seed=1), random(64, 64, seed=2)
    results = []
    for function in (relu2_mlp, reference.relu2_mlp):
        leaf = x.clone().requires_grad_()
        out = function(leaf, w_up, w_down)
        out[:3].sum().backward()
        results.append((out.detach(), leaf.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, equal_nan=True, rtol=1e-4, atol=1e-3)
    assert bool(results[0][0][[0, 1, 2, *range(4, 70)]].isfinite().all())


@interpreter
def test_no_tokens(use_triton) -> None:
    x = torch.empty(2, 0, 64, requires_grad=True)
    w_up = random(128, 64).requires_grad_()
    out = relu2_mlp(x, w_up, random(64, 128))
    out.sum().backward()
    assert out.shape == (2, 0, 64)
    assert w_up.grad is not None
    assert bool((w_up.grad == 0).all())


@interpreter
@pytest.mark.parametrize(("slope", "hidden_sized"), [(0.0, 1), (0.5, 2)])
def test_saves_post_alone_without_a_slope(slope: float, hidden_sized: int, use_triton) -> None:
    saved: list[torch.Size] = []
    x = random(65, 64).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        relu2_mlp(x, random(192, 64), random(64, 192), negative_slope=slope)
    assert saved.count(torch.Size((65, 192))) == hidden_sized


@interpreter
def test_a_gradient_of_any_layout_is_taken(use_triton) -> None:
    """`sum` and a transpose give gradients that are expanded or strided."""
    x, w_up, w_down = random(66, 64), random(128, 64, seed=1), random(64, 128, seed=2)
    for reduce in (torch.sum, lambda out: (out.T @ torch.ones(66)).sum()):
        grads = []
        for function in (relu2_mlp, reference.relu2_mlp):
            leaf = x.clone().requires_grad_()
            reduce(function(leaf, w_up, w_down)).backward()
            grads.append(leaf.grad)
        require_close(grads[0], grads[1], grads[1] * (1 + 1e-6), "gradient")


@interpreter
def test_strided_inputs_are_read_where_they_are(use_triton) -> None:
    wide, factors = random(66, 128), random(66, 3, seed=3).abs()
    w_up, w_down = random(128, 64, seed=1), random(64, 128, seed=2)
    x, rstd = wide[::2, 64:], factors[::2, 1]
    torch.testing.assert_close(
        relu2_mlp(x, w_up, w_down, rstd), reference.relu2_mlp(x, w_up, w_down, rstd), rtol=1e-4, atol=1e-3
    )


@interpreter
def test_auxiliary_outputs_are_not_differentiable() -> None:
    x = random(65, 64).requires_grad_()
    out, post, pre = torch.ops.golf_fast.relu2_mlp_forward(x, random(64, 64), random(64, 64), None, 0.5)
    assert out.requires_grad
    assert not post.requires_grad
    assert not pre.requires_grad


@interpreter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": random(5, 65)}, r"w_up is \(128, 64\); it must be \[hidden, D\], with the D of x, which is \(5, 65\)"),
        ({"x": random(5, 64).double()}, r"x is torch.float64"),
        ({"w_up": random(100, 64), "w_down": random(64, 100)}, r"w_up is \(100, 64\); it must be of multiples of 64"),
        ({"w_down": random(128, 64)}, r"w_down is \(128, 64\); it must be \(64, 128\)"),
        ({"w_down": random(128, 64).T}, r"w_down has strides \(1, 64\); it must be contiguous"),
        ({"w_up": random(128, 64).half()}, r"w_up is torch.float16"),
        ({"w_up": random(128 * 64 + 1)[1:].view(128, 64)}, r"w_up is at 0x[0-9a-f]+; it must be 16-byte"),
        ({"rstd": random(6)}, r"rstd is \(6,\); it must be \(5,\)"),
        ({"rstd": random(5).half()}, r"rstd is torch.float16; it must be torch.float32"),
        ({"negative_slope": 1.5}, r"negative_slope is 1.5"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], message: str, use_triton) -> None:
    arguments = {"x": random(5, 64), "w_up": random(128, 64), "w_down": random(64, 128)} | change
    with pytest.raises(ValueError, match=message):
        relu2_mlp(**arguments)
