"""The kernels whose launch parameters can be tuned, with the parameters that are worth a try."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.ops import linear_residual, qk_norm_rope, qkv_attention, relu2_mlp, residual_mix
from benchmarks.ops.gate import Function, Gate
from golf_fast import ops
from golf_fast.ops.launch import Launch, multiprocessors

ARCH = 90
"""Architecture whose tiles are tried."""


@dataclass(frozen=True)
class Shapes:
    """The sizes that the kernels run on; by default one GPU's share of a step of the seed in one block."""

    rows: int = 48
    length: int = 2048
    dim: int = 512
    hidden: int = 1536
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    window: int = 2048

    @property
    def tokens(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True)
class Kernel:
    """A kernel and the launch parameters to try.

    Attributes:
        name: name, also on the command line.
        gate: check of the op that runs the kernel: None if its results are right, else what is wrong.
        using: context in which the op runs the kernel with the given launch parameters.
        launch: function from launch parameters to the launch.
        choices: launch parameters to compare, the present choice first.
        outputs: tensors that the launch writes.
        flops: floating-point operations of one launch.
        bytes_moved: least number of bytes that one launch reads and writes.
    """

    name: str
    gate: Callable[[], str | None]
    using: Callable[[Any], AbstractContextManager[None]]
    launch: Callable[[Any], Launch]
    choices: list[Any]
    outputs: list[torch.Tensor]
    flops: int
    bytes_moved: int


@contextmanager
def chosen(module: Any, chooser: str, choose: Callable[..., Any]) -> Iterator[None]:
    """A context in which the function `chooser` of `module` is replaced by `choose`, which gets the result of the
    original and then its arguments."""
    now = getattr(module, chooser)
    setattr(module, chooser, lambda *at, **named: choose(now(*at, **named), *at, **named))
    try:
        yield
    finally:
        setattr(module, chooser, now)


def kernels(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    """Every kernel with its inputs on `device`, which may be the meta device."""
    yield from _of_mlp(shapes, device)
    yield from _of_linear_residual(shapes, device)
    yield from _of_attention(shapes, device)
    yield from _of_norm_and_rotation(shapes, device)
    yield from _of_residual_mix(shapes, device)


def _draw(shape: tuple[int, ...], device: torch.device, seed: int, scale: float = 1.0) -> torch.Tensor:
    if device.type == "meta":
        return torch.empty(shape, dtype=torch.bfloat16, device=device)
    generator = torch.Generator(device).manual_seed(seed)
    # The interpreter, which is the only way to run these on a CPU, multiplies bfloat16 wrongly.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return (torch.randn(shape, device=device, generator=generator) * scale).to(dtype)


def _floats(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device=device)


def _processors(device: torch.device) -> int:
    return 132 if device.type == "meta" else multiprocessors(device)


def _of_mlp(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    from golf_fast.ops.relu2_mlp import triton
    from golf_fast.ops.relu2_mlp.triton import TILES, Tiles, dpre_launch, up_launch

    tokens, dim, hidden, processors = shapes.tokens, shapes.dim, shapes.hidden, _processors(device)
    x, g = (_draw((tokens, dim), device, seed) for seed in (0, 1))
    w_up, w_down = _draw((hidden, dim), device, 2, dim**-0.5), _draw((dim, hidden), device, 3, hidden**-0.5)
    rstd = _floats((tokens,), device) if device.type == "meta" else x.float().square().mean(-1).rsqrt()
    post, change = (torch.empty((tokens, hidden), dtype=x.dtype, device=device) for _ in range(2))
    saved = _draw((tokens, hidden), device, 4).square()

    def tiles(*sizes: int, programs: int = 1, registers: int | None = None) -> Tiles:
        return Tiles(*sizes, tma=True, programs=programs, registers=registers)

    # Two programs on a multiprocessor let the epilogue of one run beside the products of the other, for more reads
    # from L2; 4 warps hold twice the accumulators each.
    shared = [
        tiles(128, 256, 64, 8, 3), tiles(128, 256, 32, 8, 6), tiles(256, 128, 64, 8, 3), tiles(128, 128, 64, 8, 4),
        tiles(128, 128, 64, 4, 2, programs=2), tiles(128, 128, 64, 8, 2, programs=2, registers=128),
        tiles(128, 128, 32, 8, 4, programs=2, registers=128), tiles(64, 256, 64, 4, 2, programs=2),
        tiles(64, 128, 64, 4, 3, programs=2), tiles(64, 128, 64, 4, 2, programs=3, registers=168),
    ]  # fmt: skip
    only_up = [tiles(128, 128, 64, 8, 3, programs=2, registers=128), tiles(128, 128, 64, 4, 3, programs=2)]

    gate = _gate(relu2_mlp.rule, ops.relu2_mlp)

    def using(which: str, choice: Tiles) -> AbstractContextManager[None]:
        return chosen(triton, "choose_tiles", lambda now, kernel, *_: choice if kernel == which else now)

    up, dpre = (functools.partial(using, which) for which in ("up", "dpre"))
    flops = 2 * tokens * dim * hidden
    of_up: Callable[[Tiles], Launch] = lambda at: up_launch(x, w_up, rstd, post, None, 0.0, at, processors)  # noqa: E731
    of_dpre: Callable[[Tiles], Launch] = lambda at: dpre_launch(g, w_down, saved, rstd, change, 0.0, at, processors)  # noqa: E731
    now = TILES["up", ARCH][0]
    size = x.element_size()
    yield Kernel(
        "mlp-up", gate, up, of_up, _first(now, [*shared, *only_up]), [post], flops, size * tokens * (dim + hidden)
    )
    now = TILES["dpre", ARCH][0]
    yield Kernel(
        "mlp-dpre", gate, dpre, of_dpre, _first(now, shared), [change], flops, size * tokens * (dim + 2 * hidden)
    )


def _of_linear_residual(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    from golf_fast.ops.gemm import Tiles
    from golf_fast.ops.linear_residual import triton
    from golf_fast.ops.linear_residual.triton import TILES, launch

    tokens, dim = shapes.tokens, shapes.dim
    x, residual = (_draw((tokens, dim), device, seed) for seed in (20, 21))
    w = _draw((dim, dim), device, 22, dim**-0.5)
    out, rstd = torch.empty_like(residual), _floats((tokens,), device)

    def tiles(*sizes: int, programs: int = 1, registers: int | None = None) -> Tiles:
        return Tiles(*sizes, tma=True, programs=programs, registers=registers)

    def of(choice: Tiles) -> Launch:
        return launch(x, w, residual, out, rstd, choice, _processors(device))

    tries = [
        tiles(128, 256, 32, 8, 6), tiles(128, 128, 64, 8, 4), tiles(128, 128, 64, 4, 2, programs=2),
        tiles(128, 128, 64, 8, 2, programs=2, registers=128), tiles(128, 128, 32, 8, 4, programs=2, registers=128),
        tiles(64, 256, 64, 4, 2, programs=2), tiles(64, 256, 32, 4, 4, programs=2),
        tiles(64, 128, 64, 4, 3, programs=2),
    ]  # fmt: skip
    flops, moved = 2 * tokens * dim * dim, x.element_size() * tokens * dim * 3

    def using(choice: Tiles) -> AbstractContextManager[None]:
        return chosen(triton, "choose_tiles", lambda *_: choice)

    gate = _gate(linear_residual.rule, ops.linear_residual)
    yield Kernel("linear-residual", gate, using, of, _first(TILES[ARCH][0], tries), [out, rstd], flops, moved)


class _Attention:
    """Attention of one layer as the model has it, and the launches of its three kernels."""

    def __init__(self, shapes: Shapes, device: torch.device) -> None:
        from golf_fast.ops.window_attention import launches

        s = self.shapes = shapes
        self.device, self.launches = device, launches
        self.now = launches.choose_tiles(s.head_dim, s.heads // s.kv_heads, ARCH)
        packed = _draw((s.rows, s.length, s.heads + 2 * s.kv_heads, s.head_dim), device, 5)
        heads = (s.heads, s.kv_heads, s.kv_heads)
        self.raw_q, self.raw_k, self.v = packed.split(heads, dim=2)
        # Queries and keys are normalised and contiguous, while the values stay in the packed product.
        self.q, self.k = (
            torch.empty(t.shape, dtype=t.dtype, device=device) if device.type == "meta" else _normed(t)
            for t in (self.raw_q, self.raw_k)
        )
        half, dtype = (s.length, s.head_dim // 2), packed.dtype
        self.gain = torch.ones(s.heads, dtype=dtype, device=device)
        self.cos, self.sin = (turn(half, dtype=dtype, device=device) for turn in (torch.ones, torch.zeros))
        self.grad = _draw(tuple(self.q.shape), device, 6)
        self.out = torch.empty(self.q.shape, dtype=dtype, device=device)
        self.d_q, self.d_k, self.d_v = torch.empty_like(packed).split(heads, dim=2)
        self.lse, self.delta = (_floats((s.rows, s.heads, s.length), device) for _ in range(2))
        self.bound = torch.full((), s.head_dim**0.5, dtype=torch.float32, device=device)
        if device.type != "meta":  # what the gradients start from
            self.launch("forward", self.now.forward)()
            self.launch("d_query", self.now.d_query)()

    def launch(self, which: str, choice: Any) -> Launch:
        """The launch of "forward", "d_query" or "d_key_value" with the tile `choice`."""
        tiles = dataclasses.replace(self.now, **{which: choice})
        common = self.q, self.k, self.v
        if which == "forward":
            window = self.shapes.window
            return self.launches.forward(*common, None, window, self.bound, self.out, self.lse, tiles)
        return self._backward(tiles)[which == "d_key_value"]

    def _backward(self, tiles: Any) -> tuple[Launch, Launch]:
        from golf_fast.ops.rms_norm.reference import EPS

        parts = _floats(self.launches.origin_parts(self.q, self.shapes.kv_heads, tiles), self.device)
        origin = self.launches.Origin(self.raw_q, self.raw_k, self.gain, self.cos, self.sin, EPS, parts)
        found = self.out, self.lse, None, self.shapes.window, self.d_q, self.d_k, self.d_v, self.delta
        return self.launches.backward(self.grad, self.q, self.k, self.v, *found, tiles=tiles, origin=origin)

    def using(self, which: str, choice: Any) -> AbstractContextManager[None]:
        return chosen(self.launches, "choose_tiles", lambda now, *_: dataclasses.replace(now, **{which: choice}))


ATTENTION = {
    "forward": [
        (128, 64, 8, 2, 128), (128, 64, 8, 4, 128), (128, 128, 8, 2), (128, 128, 8, 2, 168), (128, 64, 4, 3),
        (128, 128, 4, 2), (64, 64, 4, 3, 168), (64, 64, 4, 2, 128), (64, 128, 4, 2), (256, 64, 8, 2),
    ],
    "d_query": [
        (64, 64, 4, 2, 168), (64, 64, 4, 4, 168), (64, 64, 4, 2, 128), (64, 128, 4, 2), (128, 64, 8, 2),
        (128, 64, 8, 2, 128), (128, 64, 8, 3, 128), (128, 64, 8, 3), (128, 128, 8, 2), (128, 32, 8, 3, 128),
    ],
    "d_key_value": [
        (64, 128, 8, 2), (64, 128, 8, 4), (128, 128, 8, 2), (32, 128, 8, 3), (32, 128, 8, 3, 128), (64, 64, 4, 3),
        (64, 64, 4, 2), (64, 64, 4, 3, 168), (128, 64, 4, 2), (64, 128, 4, 3),
    ],
}  # fmt: skip
"""Positions times heads of a tile, keys, warps, stages, and perhaps the limit of registers."""


def _of_attention(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    from golf_fast.ops.window_attention.launches import Tile

    s, made = shapes, _Attention(shapes, device)
    heads = math.gcd(s.heads // s.kv_heads, 4)
    window = min(s.window, s.length)
    pairs = s.rows * s.heads * (window * (window + 1) // 2 + (s.length - window) * window)
    product = 2 * pairs * s.head_dim
    moved = made.q.element_size() * s.tokens * s.head_dim * 2 * (s.heads + s.kv_heads)
    gate = _gate(qkv_attention.rule, qkv_attention.one_product)
    for name, which, outputs, products, times in (
        ("attention", "forward", [made.out, made.lse], 2, 1),
        ("attention-dq", "d_query", [made.d_q, made.delta], 3, 2),
        ("attention-dkv", "d_key_value", [made.d_k, made.d_v], 4, 2),
    ):
        tries = [Tile(lanes // heads, heads, *others) for lanes, *others in ATTENTION[which]]
        choices = _first(getattr(made.now, which), tries)
        using, launch = functools.partial(made.using, which), functools.partial(made.launch, which)
        yield Kernel(name, gate, using, launch, choices, outputs, products * product, times * moved)


def _normed(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],)).contiguous()


def _of_norm_and_rotation(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    from golf_fast.ops.qk_norm_rope import triton
    from golf_fast.ops.qk_norm_rope.triton import Block, choose_block
    from golf_fast.ops.rms_norm.reference import EPS

    s = shapes
    heads = (s.heads, s.kv_heads, s.kv_heads)
    packed = (s.rows, s.length, sum(heads), s.head_dim)
    q, k, _ = _draw(packed, device, 7).split(heads, dim=2)
    gradient = torch.empty(packed, dtype=q.dtype, device=device)
    d_q, d_k, _ = gradient.split(heads, dim=2)
    q_out, k_out = (torch.empty(t.shape, dtype=t.dtype, device=device) for t in (q, k))
    q_grad, k_grad = _draw(tuple(q.shape), device, 8), _draw(tuple(k.shape), device, 9)
    gain, cos, sin = (_draw(size, device, 10) for size in ((s.heads,), *[(s.length, s.head_dim // 2)] * 2))

    gate = _gate(lambda: qk_norm_rope.rule(qk_norm_rope.HEAD_DIM // 2), ops.qk_norm_rope)

    def using(choice: Block) -> AbstractContextManager[None]:
        return chosen(triton, "choose_block", lambda *_: choice)

    def d_gain(choice: Block) -> torch.Tensor:
        return _floats((-(-s.tokens // choice.tokens), s.heads), device)

    def forward(choice: Block) -> Launch:
        return triton.forward(q, k, gain, cos, sin, EPS, q_out, k_out, choice)

    def backward(choice: Block) -> Launch:
        return triton.backward(q_grad, k_grad, q, k, gain, cos, sin, EPS, d_q, d_k, d_gain(choice), choice)

    tries = [Block(tokens, warps) for tokens in (2, 4, 8, 16, 32) for warps in (4, 8) if tokens * s.heads <= 32 * warps]
    choices = _first(choose_block(s.heads, s.head_dim), tries)
    moved = q.element_size() * s.tokens * (s.heads + s.kv_heads) * s.head_dim
    yield Kernel("qk", gate, using, forward, choices, [q_out, k_out], 0, 2 * moved)
    yield Kernel("qk-backward", gate, using, backward, choices, [d_q, d_k], 0, 3 * moved)


def _of_residual_mix(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    """Where a block of the second half begins: it takes up a skip, and no gradient of its stream comes in."""
    from golf_fast.ops.residual_mix import triton
    from golf_fast.ops.residual_mix.triton import Block, choose_block
    from golf_fast.ops.rms_norm.reference import EPS

    tokens, dim, processors = shapes.tokens, shapes.dim, _processors(device)
    x, x0, branch, skip, d_mixed, d_normed = (_draw((tokens, dim), device, seed) for seed in range(11, 17))
    mix, weight = _draw((2, dim), device, 17), _draw((dim,), device, 18)
    summed, mixed, normed, d_stream, d_x0, d_skip = (torch.empty_like(x) for _ in range(6))
    rstd = _floats((tokens,), device)

    gate = _gate(lambda: residual_mix.rule(second=True), residual_mix.used(ops.residual_mix, second=True))

    def using(of_backward: bool, choice: Block) -> AbstractContextManager[None]:
        return chosen(triton, "choose_block", lambda now, width, backward: choice if backward == of_backward else now)

    at_forward, at_backward = functools.partial(using, False), functools.partial(using, True)

    def forward(choice: Block) -> Launch:
        return triton.forward(x, x0, mix, branch, skip, weight, EPS, summed, mixed, normed, rstd, choice)

    def backward(choice: Block) -> Launch:
        parts = _floats((triton.programs(x, choice, processors), 3, dim), device)
        return triton.backward(
            d_mixed, d_normed, None, summed, x0, mix, rstd, skip, weight, d_stream, d_x0, d_skip, parts, choice
        )

    now = choose_block(dim, backward=False), choose_block(dim, backward=True)
    if device.type != "meta":  # what the gradients start from
        forward(now[0])()
    unit = x.element_size() * tokens * dim
    # 8, 16 or 32 numbers of a tensor for each thread; a row in one warp, or over two or more.
    tries = [Block(rows, warps) for warps in (1, 2, 4, 8) for rows in (warps // 2, warps, 2 * warps) if rows]
    outputs = [summed, mixed, normed, rstd]
    yield Kernel("residual-mix", gate, at_forward, forward, _first(now[0], tries), outputs, 0, 7 * unit)
    tries = [
        Block(2, 4, 3), Block(2, 4, 2), Block(1, 2, 8), Block(1, 2, 6), Block(1, 1, 10), Block(1, 1, 8), Block(2, 2, 6),
        Block(2, 2, 4), Block(4, 4, 2), Block(4, 8, 2), Block(1, 4, 8), Block(2, 8, 4),
    ]  # fmt: skip
    outputs, choices = [d_stream, d_x0, d_skip], _first(now[1], tries)
    yield Kernel("residual-mix-backward", gate, at_backward, backward, choices, outputs, 0, 8 * unit)


def _gate(rule: Callable[[], Gate], function: Function) -> Callable[[], str | None]:
    """The gate of an op, whose plain version is computed once for all choices of all of its kernels."""
    once = functools.cache(rule)
    return lambda: once().wrong(function)


def _first(now: Any, tries: Sequence[Any]) -> list[Any]:
    return [now, *(choice for choice in tries if choice != now)]
