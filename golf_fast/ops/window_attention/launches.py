"""How the Triton kernels of window attention are launched: tiles, grids and arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import triton

from golf_fast.ops.launch import Launch, architecture, strides
from golf_fast.ops.window_attention.triton import forward_kernel
from golf_fast.ops.window_attention.triton_backward import d_key_value_kernel, d_query_kernel

OP = "window_attention"
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Tile:
    """Launch parameters of a kernel.

    Attributes:
        rows: query positions of a tile.
        heads: query heads of a tile; `rows * heads` is the extent of the matrix products.
        keys: key positions of a tile.
        warps: warps of a program.
        stages: depth of the software pipeline of loads.
        registers: limit on the registers of a thread, so that as many programs share a multiprocessor as the tile is
            meant for; None: no limit.
    """

    rows: int
    heads: int
    keys: int
    warps: int
    stages: int
    registers: int | None = None


@dataclass(frozen=True)
class Tiles:
    """The tiles of the three kernels."""

    forward: Tile
    d_query: Tile
    d_key_value: Tile


def choose_tiles(head_dim: int, group: int, arch: int) -> Tiles:
    """Launch parameters for query heads in groups of `group` on `arch` (see `launch.architecture`).

    Chosen from what the compiler says of registers, spills and shared memory, and from the traffic between L2 and the
    multiprocessors: nothing was timed. They do not depend on the window, or a growing one would compile anew.
    """
    heads = math.gcd(group, 4)

    def tile(lanes: int, keys: int, warps: int, stages: int, registers: int | None = None) -> Tile:
        return Tile(lanes // heads, heads, keys, warps, stages, registers)

    if arch >= 90 and head_dim <= 64:
        stages = 3 if head_dim == 64 else 2  # narrower heads spill with three under triton 3.9
        return Tiles(tile(128, 64, 8, stages, 128), tile(64, 64, 4, 3, 168), tile(64, 128, 8, 3))
    if arch >= 90:
        return Tiles(tile(128, 64, 8, 2), tile(128, 32, 8, 3), tile(64, 64, 8, 2))
    if head_dim <= 64:
        return Tiles(tile(64, 64, 4, 3), tile(128, 32, 8, 3), tile(32, 128, 8, 3))
    return Tiles(tile(128, 32, 8, 3), tile(64, 32, 4, 2), tile(32, 64, 8, 2))


def _common(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bounds: torch.Tensor | None, window: int, tile: Tile
) -> dict[str, object]:
    length, heads, head_dim = q.shape[1:]
    return {
        "q": q,
        "k": k,
        "v": v,
        "bounds": bounds,
        "length": length,
        "window": min(window, length),
        "kv_heads": k.shape[2],
        "scale": head_dim**-0.5 * LOG2_E,
        **strides(q=q, k=k, v=v),
        "GROUP": heads // k.shape[2],
        "HEAD_DIM": head_dim,
        "ROWS": tile.rows,
        "HEADS": tile.heads,
        "KEYS": tile.keys,
        "DOCUMENTS": bounds is not None,
    }


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    logit_bound: float | torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    tiles: Tiles | None = None,
) -> Launch:
    """The launch that writes `out` `[B, T, heads, head_dim]` (contiguous) and `lse` `[B, heads, T]` float32.

    `lse` is in base 2: the binary logarithm of the sum of the exponentials of the scaled scores. `bounds` is
    `[2, T]` int32 with B = 1, `window` is T or more where there is none. Half precision always takes the online
    softmax: weights down to `exp(-2 * logit_bound)` would vanish in it. A `logit_bound` that is a tensor is read by
    the kernel.
    """
    tile = (tiles or choose_tiles(q.shape[3], q.shape[2] // k.shape[2], architecture(q.device))).forward
    arguments = _common(q, k, v, bounds, window, tile)
    asked = logit_bound if q.dtype != torch.float16 else None
    bounded = isinstance(asked, float) and 2 * asked <= 80
    arguments |= {
        "out": out,
        "lse": lse,
        "logit_bound": asked if isinstance(asked, torch.Tensor) else None,
        "bound": asked * LOG2_E if isinstance(asked, float) and bounded else 0.0,
        "BOUNDED": bounded,
        "ASK": isinstance(asked, torch.Tensor),
    }
    grid = (triton.cdiv(q.shape[1], tile.rows) * (q.shape[2] // tile.heads) * q.shape[0],)
    return Launch(OP, forward_kernel, grid, arguments, tile.warps, tile.stages, tile.registers)


@dataclass(frozen=True)
class Origin:
    """The inputs of the norm and rotation that made queries and keys, for a backward that writes the gradients of
    these inputs.

    Attributes:
        q: `[B, T, heads, head_dim]` before norm, rotation and gain, with a last stride of 1.
        k: `[B, T, kv_heads, head_dim]` before norm and rotation, with a last stride of 1.
        gain: `[heads]`, contiguous.
        cos: `[T, head_dim / 2]`, contiguous: all dimensions turn.
        sin: `[T, head_dim / 2]`, contiguous.
        eps: epsilon of the norm.
        d_gain: parts of the gradient of the gain, `origin_parts(...)` float32, written; `sum((0, 2))` is all of it.
    """

    q: torch.Tensor
    k: torch.Tensor
    gain: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    eps: float
    d_gain: torch.Tensor


def origin_parts(q: torch.Tensor, kv_heads: int, tiles: Tiles | None = None) -> tuple[int, int, int, int]:
    """The shape of `Origin.d_gain`."""
    tile = (tiles or choose_tiles(q.shape[3], q.shape[2] // kv_heads, architecture(q.device))).d_query
    return q.shape[0], q.shape[2] // tile.heads, triton.cdiv(q.shape[1], tile.rows), tile.heads


def backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bounds: torch.Tensor | None,
    window: int,
    d_query: torch.Tensor,
    d_key: torch.Tensor,
    d_value: torch.Tensor,
    delta: torch.Tensor,
    tiles: Tiles | None = None,
    origin: Origin | None = None,
    add: bool = False,
) -> tuple[Launch, Launch]:
    """The two launches that write the gradients in the shapes of q, k and v, the first also `delta` like `lse`.

    The gradients have a last stride of 1. With `origin`, `d_query` and `d_key` are the gradients of its q and k. With
    `add` that of v is added to what `d_value` holds.
    """
    tiles = tiles or choose_tiles(q.shape[3], q.shape[2] // k.shape[2], architecture(q.device))
    shared = {"grad": grad, "lse": lse, "delta": delta, "softmax_scale": q.shape[3] ** -0.5, **strides(grad=grad)}
    tile = tiles.d_query
    grid = (triton.cdiv(q.shape[1], tile.rows) * (q.shape[2] // tile.heads) * q.shape[0],)
    arguments = _common(q, k, v, bounds, window, tile) | shared | {"out": out, "d_query": d_query}
    arguments |= strides(d_query=d_query) | _origin(origin, "q")
    arguments |= {name: getattr(origin, name, None) for name in ("gain", "d_gain")}
    first = Launch(OP + ".d_query", d_query_kernel, grid, arguments, tile.warps, tile.stages, tile.registers)
    tile = tiles.d_key_value
    grid = (triton.cdiv(q.shape[1], tile.keys) * k.shape[2] * q.shape[0],)
    arguments = _common(q, k, v, bounds, window, tile) | shared | {"d_key": d_key, "d_value": d_value}
    arguments["ADD"] = add
    arguments |= strides(d_key=d_key, d_value=d_value) | _origin(origin, "k")
    return first, Launch(
        OP + ".d_key_value", d_key_value_kernel, grid, arguments, tile.warps, tile.stages, tile.registers
    )


def _origin(origin: Origin | None, part: Literal["q", "k"]) -> dict[str, object]:
    """The arguments of both kernels of the backward that come from an origin."""
    if origin is None:
        return {"raw": None, "cos": None, "sin": None, "eps": 0.0, "raw_batch": 0, "raw_row": 0, "raw_head": 0}
    raw = origin.q if part == "q" else origin.k
    return {"raw": raw, "cos": origin.cos, "sin": origin.sin, "eps": origin.eps, **strides(raw=raw)}
