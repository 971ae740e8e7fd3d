"""window_attention: one GPU's share of a step of the seed in one layer, at four windows, against other kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.ops import gate, peers
from benchmarks.ops.registry import Case
from golf_fast.ops import backends
from golf_fast.ops.window_attention import reference, window_attention

ROWS, LENGTH, HEADS, KV_HEADS, HEAD_DIM = 48, 2048, 8, 4, 64
WINDOWS = (None, 512, 256, 128)
LOGIT_BOUND = 12.0
"""What the seed's initial gain of 1.5 allows: 1.5 * sqrt(64)."""

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    if device_kind != "cuda":
        return ["window_attention: everything, for its kernels need a GPU"]
    lines = ["window_attention against eager PyTorch: its scores alone take 6.4 GB in float32"]
    missing = {name: peers.optional(module, "flash_attn_func")[1] for name, module in FLASH.items()}
    return lines + [f"window_attention against {name}: {reason}" for name, reason in missing.items() if reason]


def pairs(window: int | None) -> int:
    """How many keys the queries of a row see, in sum."""
    w = min(window or LENGTH, LENGTH)
    return w * (w + 1) // 2 + (LENGTH - w) * w


def cases(device_kind: str) -> Iterator[Case]:
    """Forward and backward at every window, with the running maximum and with a constant one."""
    if device_kind != "cuda":
        return
    for window in WINDOWS:
        for bound in (LOGIT_BOUND, None):
            yield from _cases(window, bound)


def inputs(rows: int) -> Tensors:
    """q, k and v as they leave the norm: every head of a query has the length `LOGIT_BOUND`, of a key `sqrt(64)`."""
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(heads: int) -> torch.Tensor:
        return torch.randn(rows, LENGTH, heads, HEAD_DIM, device="cuda", generator=generator)

    q, k, v = F.rms_norm(draw(HEADS), (HEAD_DIM,)), F.rms_norm(draw(KV_HEADS), (HEAD_DIM,)), draw(KV_HEADS)
    gain = LOGIT_BOUND / HEAD_DIM**0.5
    q, k, v = (t.bfloat16().requires_grad_() for t in (q * gain, k, v))
    return q, k, v


def _cases(window: int | None, bound: float | None) -> Iterator[Case]:
    backend = backends.resolve("window_attention", "cuda").name
    q, k, v = inputs(ROWS)
    grad = torch.randn_like(q)

    # As a model with trained gains has it: on the device.
    asked = None if bound is None else torch.tensor(bound, device="cuda")

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return window_attention(q, k, v, window, logit_bound=asked)

    others = others_at(window)
    flops = 4 * pairs(window) * HEADS * HEAD_DIM * ROWS
    moved = 2 * (2 * q.numel() + k.numel() + v.numel())
    label = f"48x2048, window {window or 'full'}" + (", bounded" if bound is not None else "")

    def made(function: Attention, backward: bool) -> Callable[[], object]:
        given = (q, k, v)
        return gate.backward_of(function, given, (0, 1, 2), [grad]) if backward else gate.forward_of(function, given)

    for backward, factor, bytes_moved in ((False, 1.0, moved), (True, 2.5, 2 * moved + 2 * q.numel())):
        yield Case(
            op="window_attention",
            label=f"{'backward' if backward else 'forward'} {label}",
            implementation=backend,
            ours=made(ours, backward),
            peers={peer: made(function, backward) for peer, function in others.items()},
            gate=lambda: wrong(ours, window),
            peer_gates={peer: functools.partial(wrong, function, window) for peer, function in others.items()},
            bytes_moved=bytes_moved,
            flops=int(factor * flops),
        )


def wrong(function: Attention, window: int | None) -> str | None:
    """None if output and gradients of `function` obey the tolerance rule on one row."""

    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = reference.window_attention(q, k, v, window)
        assert isinstance(out, torch.Tensor)
        return out

    return gate.wrong(function, plain, [t.detach() for t in inputs(1)], (0, 1, 2))


FLASH = {
    "flash-attn 4": "flash_attn.cute",
    "flash-attn 3": "flash_attn_interface",
    "flash-attn 2": "flash_attn",
}


def _flash(name: str, window: int | None) -> Attention | None:
    function, _ = peers.optional(FLASH[name], "flash_attn_func")
    if function is None:
        return None
    # FlashAttention counts the positions to the left, without the query's own.
    sizes: Any = {} if window is None else {"window_size": (window - 1, 0)}

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = function(q, k, v, causal=True, **sizes)
        result: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return result

    return run


def _sdpa(backend: SDPBackend) -> Attention:
    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(backend):
            out = F.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
            )
        return out.transpose(1, 2)

    return run


def _flex(window: int | None) -> Attention:
    @functools.cache
    def made() -> tuple[Any, Any]:  # when it is first run: many runs leave it out
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        mask = create_block_mask(visible, None, None, LENGTH, LENGTH, device="cuda")
        return mask, torch.compile(flex_attention, dynamic=False)

    def visible(b: torch.Tensor, h: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (query >= key) & (query - key < (window or LENGTH))

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        mask, compiled = made()
        out: torch.Tensor = compiled(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), block_mask=mask, enable_gqa=True
        )
        return out.transpose(1, 2)

    return run


def others_at(window: int | None) -> dict[str, Attention]:
    """What else computes the same on this machine, by name; SDPA's fast kernels know no window."""
    found: dict[str, Attention] = {"flex_attention": _flex(window)}
    if window is None:
        found |= {
            "sdpa flash": _sdpa(SDPBackend.FLASH_ATTENTION),
            "sdpa cudnn": _sdpa(SDPBackend.CUDNN_ATTENTION),
        }
    return found | {name: function for name in FLASH if (function := _flash(name, window)) is not None}
