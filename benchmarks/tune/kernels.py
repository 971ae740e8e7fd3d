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
"""Whose tiles are tried."""


@dataclass(frozen=True)
class Shapes:
    """What the kernels run on; by default one GPU's share of a step of the seed in one block."""

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
        name: on the command line, too.
        gate: of the op that runs it: None, or what is wrong.
        using: the op runs the kernel with these parameters inside of it.
        launch: makes the launch for parameters.
        choices: the present choice first.
        outputs: what the launch writes.
        flops: of one launch.
        bytes_moved: read and written by one launch at least.
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
    """`module.chooser` is `choose`, which gets what it would choose and then its arguments."""
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


def _of_attention(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    from golf_fast.ops.qk_norm_rope.reference import EPS
    from golf_fast.ops.window_attention import launches
    from golf_fast.ops.window_attention.launches import Tile

    s = shapes
    packed = _draw((s.rows, s.length, s.heads + 2 * s.kv_heads, s.head_dim), device, 5)
    heads_of = (s.heads, s.kv_heads, s.kv_heads)
    raw_q, raw_k, v = packed.split(heads_of, dim=2)
    # As the model has them: normalised and contiguous, while the values stay in the packed product.
    q, k = (
        torch.empty(t.shape, dtype=t.dtype, device=device) if device.type == "meta" else _normed(t)
        for t in (raw_q, raw_k)
    )
    gain = torch.ones(s.heads, dtype=q.dtype, device=device)
    cos, sin = (turn((s.length, s.head_dim // 2), dtype=q.dtype, device=device) for turn in (torch.ones, torch.zeros))
    grad = _draw(tuple(q.shape), device, 6)
    out = torch.empty(q.shape, dtype=q.dtype, device=device)
    d_q, d_k, d_v = torch.empty_like(packed).split(heads_of, dim=2)
    lse, delta = (_floats((s.rows, s.heads, s.length), device) for _ in range(2))
    bound = torch.full((), s.head_dim**0.5, dtype=torch.float32, device=device)
    now = launches.choose_tiles(s.head_dim, s.heads // s.kv_heads, ARCH)
    heads = math.gcd(s.heads // s.kv_heads, 4)

    def tile(lanes: int, keys: int, warps: int, stages: int, registers: int | None = None) -> Tile:
        return Tile(lanes // heads, heads, keys, warps, stages, registers)

    def forward(choice: Tile) -> Launch:
        at = dataclasses.replace(now, forward=choice)
        return launches.forward(q, k, v, None, s.window, bound, out, lse, at)

    gate = _gate(qkv_attention.rule, qkv_attention.one_product)

    def backward(at: launches.Tiles) -> tuple[Launch, Launch]:
        parts = _floats(launches.origin_parts(q, s.kv_heads, at), device)
        origin = launches.Origin(raw_q, raw_k, gain, cos, sin, EPS, parts)
        return launches.backward(grad, q, k, v, out, lse, None, s.window, d_q, d_k, d_v, delta, tiles=at, origin=origin)

    def d_query(choice: Tile) -> Launch:
        return backward(dataclasses.replace(now, d_query=choice))[0]

    def d_key_value(choice: Tile) -> Launch:
        return backward(dataclasses.replace(now, d_key_value=choice))[1]

    def using(which: str, choice: Tile) -> AbstractContextManager[None]:
        return chosen(launches, "choose_tiles", lambda now, *_: dataclasses.replace(now, **{which: choice}))

    at_forward, at_dq, at_dkv = (functools.partial(using, name) for name in ("forward", "d_query", "d_key_value"))
    if device.type != "meta":  # what the gradients start from
        forward(now.forward)()
        d_query(now.d_query)()
    window = min(s.window, s.length)
    pairs = s.rows * s.heads * (window * (window + 1) // 2 + (s.length - window) * window)
    product, size = 2 * pairs * s.head_dim, q.element_size()
    moved = size * s.tokens * s.head_dim * 2 * (s.heads + s.kv_heads)
    tries = [
        tile(128, 64, 8, 2, 128), tile(128, 64, 8, 4, 128), tile(128, 128, 8, 2), tile(128, 128, 8, 2, 168),
        tile(128, 64, 4, 3), tile(128, 128, 4, 2), tile(64, 64, 4, 3, 168), tile(64, 64, 4, 2, 128),
        tile(64, 128, 4, 2), tile(256, 64, 8, 2),
    ]  # fmt: skip
    yield Kernel("attention", gate, at_forward, forward, _first(now.forward, tries), [out, lse], 2 * product, moved)
    tries = [
        tile(64, 64, 4, 2, 168), tile(64, 64, 4, 4, 168), tile(64, 64, 4, 2, 128), tile(64, 128, 4, 2),
        tile(128, 64, 8, 2), tile(128, 64, 8, 2, 128), tile(128, 64, 8, 3, 128), tile(128, 64, 8, 3),
        tile(128, 128, 8, 2), tile(128, 32, 8, 3, 128),
    ]  # fmt: skip
    yield Kernel("attention-dq", gate, at_dq, d_query, _first(now.d_query, tries), [d_q, delta], 3 * product, 2 * moved)
    tries = [
        tile(64, 128, 8, 2), tile(64, 128, 8, 4), tile(128, 128, 8, 2), tile(32, 128, 8, 3), tile(32, 128, 8, 3, 128),
        tile(64, 64, 4, 3), tile(64, 64, 4, 2), tile(64, 64, 4, 3, 168), tile(128, 64, 4, 2), tile(64, 128, 4, 3),
    ]  # fmt: skip
    yield Kernel(
        "attention-dkv", gate, at_dkv, d_key_value, _first(now.d_key_value, tries), [d_k, d_v], 4 * product,
        2 * moved,
    )  # fmt: skip


def _normed(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],)).contiguous()


def _of_norm_and_rotation(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    from golf_fast.ops.qk_norm_rope import triton
    from golf_fast.ops.qk_norm_rope.reference import EPS
    from golf_fast.ops.qk_norm_rope.triton import Block, choose_block

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
    from golf_fast.ops.residual_mix.reference import EPS
    from golf_fast.ops.residual_mix.triton import Block, choose_block

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
