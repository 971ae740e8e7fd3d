"""Launch parameters of the kernels against those that are chosen now: `python -m benchmarks tune`.

Without a GPU it compiles them all for sm_90 and says what the compiler reports: what spills or does not fit is out
before a GPU is asked.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks import qk_norm_rope, qkv_attention, relu2_mlp
from benchmarks.gate import wrong
from benchmarks.registry import Case
from benchmarks.runner import measure_cases, measuring
from golf_fast import ops
from golf_fast.errors import InputError
from golf_fast.ops.absent_gpu import SHARED_LIMIT, Compiled, compile_launch
from golf_fast.ops.launch import Launch, multiprocessors
from golf_fast.ops.relu2_mlp.reference import relu2_mlp as plain_relu2_mlp

ARCH = 90
"""What is compiled for where there is no GPU, and whose tiles are tried."""


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
        gate: of the op that runs it as it is now: None, or what is wrong.
        launch: makes the launch for parameters.
        choices: the present choice first.
        outputs: what the launch writes.
        flops: of one launch.
        bytes_moved: read and written by one launch at least.
    """

    name: str
    gate: Callable[[], str | None]
    launch: Callable[[Any], Launch]
    choices: list[Any]
    outputs: list[torch.Tensor]
    flops: int
    bytes_moved: int


def describe(choice: Any) -> str:
    """Launch parameters in words, without those that are not set."""
    shown = {k: v for k, v in dataclasses.asdict(choice).items() if v is not None and v is not True}
    return " ".join(f"{name} {value}" for name, value in shown.items())


def kernels(shapes: Shapes, device: torch.device) -> Iterator[Kernel]:
    """Every kernel with its inputs on `device`, which may be the meta device."""
    yield from _of_mlp(shapes, device)
    yield from _of_attention(shapes, device)
    yield from _of_norm_and_rotation(shapes, device)


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

    def gate() -> str | None:
        arguments = relu2_mlp.inputs(relu2_mlp.GATE_TOKENS, scaled=True)
        return wrong(ops.relu2_mlp, plain_relu2_mlp, arguments, range(len(arguments)))

    flops = 2 * tokens * dim * hidden
    of_up: Callable[[Tiles], Launch] = lambda at: up_launch(x, w_up, rstd, post, None, 0.0, at, processors)  # noqa: E731
    of_dpre: Callable[[Tiles], Launch] = lambda at: dpre_launch(g, w_down, saved, rstd, change, 0.0, at, processors)  # noqa: E731
    now = TILES["up", ARCH][0]
    size = x.element_size()
    yield Kernel("mlp-up", gate, of_up, _first(now, [*shared, *only_up]), [post], flops, size * tokens * (dim + hidden))
    now = TILES["dpre", ARCH][0]
    yield Kernel("mlp-dpre", gate, of_dpre, _first(now, shared), [change], flops, size * tokens * (dim + 2 * hidden))


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

    def gate() -> str | None:
        return qkv_attention.gate(qkv_attention.one_product)

    def backward(at: launches.Tiles) -> tuple[Launch, Launch]:
        parts = _floats(launches.origin_parts(q, s.kv_heads, at), device)
        origin = launches.Origin(raw_q, raw_k, gain, cos, sin, EPS, parts)
        return launches.backward(grad, q, k, v, out, lse, None, s.window, d_q, d_k, d_v, delta, tiles=at, origin=origin)

    def d_query(choice: Tile) -> Launch:
        return backward(dataclasses.replace(now, d_query=choice))[0]

    def d_key_value(choice: Tile) -> Launch:
        return backward(dataclasses.replace(now, d_key_value=choice))[1]

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
    yield Kernel("attention", gate, forward, _first(now.forward, tries), [out, lse], 2 * product, moved)
    tries = [
        tile(64, 64, 4, 2, 168), tile(64, 64, 4, 4, 168), tile(64, 64, 4, 2, 128), tile(64, 128, 4, 2),
        tile(128, 64, 8, 2), tile(128, 64, 8, 2, 128), tile(128, 64, 8, 3), tile(128, 128, 8, 2),
        tile(128, 32, 8, 3, 128),
    ]  # fmt: skip
    yield Kernel("attention-dq", gate, d_query, _first(now.d_query, tries), [d_q, delta], 3 * product, 2 * moved)
    tries = [
        tile(64, 128, 8, 2), tile(64, 128, 8, 4), tile(128, 128, 8, 2), tile(32, 128, 8, 3), tile(32, 128, 8, 3, 128),
        tile(64, 64, 4, 3), tile(64, 64, 4, 2), tile(64, 64, 4, 3, 168), tile(128, 64, 4, 2), tile(64, 128, 4, 3),
    ]  # fmt: skip
    yield Kernel(
        "attention-dkv", gate, d_key_value, _first(now.d_key_value, tries), [d_k, d_v], 4 * product,
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

    def gate() -> str | None:
        return qk_norm_rope.wrong(ops.qk_norm_rope, s.head_dim // 2)

    def d_gain(choice: Block) -> torch.Tensor:
        return _floats((-(-s.tokens // choice.tokens), s.heads), device)

    def forward(choice: Block) -> Launch:
        return triton.forward(q, k, gain, cos, sin, EPS, q_out, k_out, choice)

    def backward(choice: Block) -> Launch:
        return triton.backward(q_grad, k_grad, q, k, gain, cos, sin, EPS, d_q, d_k, d_gain(choice), choice)

    tries = [Block(tokens, warps) for tokens in (2, 4, 8, 16, 32) for warps in (4, 8) if tokens * s.heads <= 32 * warps]
    choices = _first(choose_block(s.heads, s.head_dim), tries)
    moved = q.element_size() * s.tokens * (s.heads + s.kv_heads) * s.head_dim
    yield Kernel("qk", gate, forward, choices, [q_out, k_out], 0, 2 * moved)
    yield Kernel("qk-backward", gate, backward, choices, [d_q, d_k], 0, 3 * moved)


def _first(now: Any, tries: Sequence[Any]) -> list[Any]:
    return [now, *(choice for choice in tries if choice != now)]


def differs(found: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> str | None:
    """None if what a choice wrote is what the present one wrote, but for the order of sums."""
    for i, (a, b) in enumerate(zip(found, right, strict=True)):
        error, largest = float((a.double() - b.double()).abs().max()), float(b.double().abs().max())
        if not error <= 2**-7 * largest:  # a NaN is never within the limit
            return f"output {i} is off by {error:.3g}, and its largest number is {largest:.3g}"
    return None


def run_poisoned(launch: Launch, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What a launch writes into outputs full of NaN."""
    for out in outputs:
        out.fill_(float("nan"))
    launch()
    return [out.clone() for out in outputs]


def as_case(kernel: Kernel) -> Case:
    """The present choice against each other one."""
    now = kernel.launch(kernel.choices[0])
    peers = {describe(choice): kernel.launch(choice) for choice in kernel.choices[1:]}

    def gate(launch: Launch) -> str | None:
        return differs(run_poisoned(launch, kernel.outputs), run_poisoned(now, kernel.outputs))

    return Case(
        "tune", kernel.name, describe(kernel.choices[0]), now, peers,
        gate=kernel.gate,
        bytes_moved=kernel.bytes_moved, flops=kernel.flops,
        peer_gates={name: functools.partial(gate, launch) for name, launch in peers.items()},
    )  # fmt: skip


def report_compiled(kernel: Kernel) -> None:
    """A line for each choice: what the compiler says of it for sm_90."""
    for choice in kernel.choices:
        made = compile_launch(kernel.launch(choice), ARCH)
        mark = "now" if choice == kernel.choices[0] else ""
        print(f"{kernel.name:14} {mark:4}{describe(choice):72} {as_text(made)}", flush=True)


def as_text(made: Compiled) -> str:
    text = f"{made.registers:4} registers {made.shared:7} bytes shared {made.programs} programs"
    if made.shared > SHARED_LIMIT[ARCH]:
        return f"{text}, does not fit"
    return f"{text}, spills {made.stack} bytes" if made.stack else text


def main(arguments: Sequence[str]) -> None:
    if importlib.util.find_spec("triton") is None:
        raise InputError("triton is not installed, and these are its kernels: pip install -r requirements.txt")
    names = [kernel.name for kernel in kernels(Shapes(), torch.device("meta"))]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks tune",
        description="Time launch parameters of the kernels against those that are chosen now, on the seed's shapes. "
        "Without a GPU, or with --compile: say what the compiler makes of each for sm_90.",
    )
    parser.add_argument("--kernel", choices=names, action="append", help="only this one (may be repeated)")
    parser.add_argument("--window", type=int, default=Shapes.window, help="of attention (default: full, 2048)")
    parser.add_argument("--compile", action="store_true", help="compile only, also where there is a GPU")
    parser.add_argument("--json", action="store_true", help="print JSON lines in place of a table")
    options = parser.parse_args(arguments)
    if options.window < 1:
        raise InputError(f"--window is {options.window}: it must be at least 1")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise InputError("TRITON_INTERPRET is 1, and the interpreter compiles nothing: unset it")
    shapes = Shapes(window=options.window)
    on_gpu = torch.cuda.is_available() and not options.compile
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("meta")
    wanted = (kernel for kernel in kernels(shapes, device) if options.kernel is None or kernel.name in options.kernel)
    if not on_gpu:
        print("compiled for sm_90, nothing is timed", file=sys.stderr)
        for kernel in wanted:
            report_compiled(kernel)
        return
    options = argparse.Namespace(peer=None, implementation=None, list=False, json=options.json)
    with measuring("cuda") as (compare, conditions):
        if not measure_cases(map(as_case, wanted), options, compare, conditions):
            sys.exit("wrong results, so no times")
