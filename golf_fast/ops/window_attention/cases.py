"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops import passes
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.window_attention import reference, window_attention

# (rows, length, heads, kv heads, head dim, window, ends of documents)
SHAPES = (
    (2, 1, 1, 1, 32, None, None),
    (1, 17, 2, 1, 32, 5, None),
    (2, 65, 4, 2, 32, None, None),
    (1, 70, 4, 1, 64, 64, (1, 2, 40)),
)


def random_qkv(
    shape: tuple[int, int, int, int, int], device: torch.device, dtype: torch.dtype, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normal q, k and v for `(rows, length, heads, kv heads, head dim)`."""
    rows, length, heads, kv_heads, head_dim = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> torch.Tensor:
        return torch.randn((rows, length, count, head_dim), generator=generator).to(device=device, dtype=dtype)

    return draw(heads), draw(kv_heads), draw(kv_heads)


def cumulative(ends: tuple[int, ...], length: int, device: torch.device) -> torch.Tensor:
    """`cu_seqlens` of documents that end before the positions `ends`, and of the last, which ends at `length`."""
    return torch.tensor([0, *ends, length], dtype=torch.int32, device=device)


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for seed, (rows, length, heads, kv_heads, head_dim, window, ends) in enumerate(SHAPES):
        q, k, v = random_qkv((rows, length, heads, kv_heads, head_dim), device, dtype, seed)
        cu_seqlens = None if ends is None else cumulative(ends, length, device)
        label = f"{rows}x{length}x{heads}/{kv_heads}x{head_dim} window {window}"
        label += f" documents {ends}" if ends else ""
        made.append(Sample(label, (q, k, v, window), {"cu_seqlens": cu_seqlens}, (0, 1, 2)))
        if length > 1:
            last = length // 3
            made.append(
                Sample(f"{label}, the last {last}", (q[:, -last:], k, v, window), {"cu_seqlens": cu_seqlens}, (0, 1, 2))
            )
        if ends:
            packed = tuple(tensor[0] for tensor in (q, k, v))
            made.append(Sample(f"{label} packed", (*packed, window), {"cu_seqlens": cu_seqlens}, (0, 1, 2)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    calls = []

    if not passes.obstacle(device.type):
        for ends in (None, (3, 9)):
            q, k, v = random_qkv((2 if ends is None else 1, 17, 4, 2, 32), device, dtype, 0)
            cu_seqlens = None if ends is None else cumulative(ends, 17, device)
            _, *saved = torch.ops.golf_fast.window_attention_native_forward(q, k, v, 6, cu_seqlens, True)
            calls.append(OperatorCall("window_attention_native_backward", (q.cos(), *saved, 6, cu_seqlens)))
            leaves = tuple(tensor.clone().requires_grad_() for tensor in (q, k, v))
            calls.append(OperatorCall("window_attention_native_forward", (*leaves, 6, cu_seqlens, True)))
            calls.append(OperatorCall("window_attention_native_forward", (q, k, v, None, cu_seqlens, False)))

    def both(bound: float | torch.Tensor | None) -> tuple[float | None, torch.Tensor | None]:
        return (None, bound) if isinstance(bound, torch.Tensor) else (bound, None)

    for bound, ends in ((None, None), (30.0, (3, 9)), (torch.tensor(30.0, device=device), None)):
        q, k, v = random_qkv((1, 17, 4, 2, 32), device, dtype, 0)
        bounds = None if ends is None else reference.document_bounds(cumulative(ends, 17, device), 17)
        out, lse = torch.ops.golf_fast.window_attention_forward(q, k, v, bounds, 6, *both(bound))
        grad = torch.randn(q.shape, generator=torch.Generator().manual_seed(1)).to(q)
        calls.append(OperatorCall("window_attention_backward", (grad, q, k, v, out, lse, bounds, 6)))
        leaves = tuple(tensor.clone().requires_grad_() for tensor in (q, k, v))
        calls.append(OperatorCall("window_attention_forward", (*leaves, bounds, 6, *both(bound))))
    return calls


def builds() -> list[Build]:
    return list(_builds())


def _builds() -> Iterator[Build]:
    """The tiles depend on the architecture, the head dim (up to 64 or not) and the group; the other switches are
    compiled once beside them."""
    for arch in (90, 80):
        for head_dim, kv_heads in ((64, 8), (64, 4), (64, 2), (128, 8), (128, 4), (128, 2), (32, 4)):
            yield from _builds_of(arch, head_dim, kv_heads, documents=False, logit_bound=None)
        yield from _builds_of(arch, 64, 4, documents=True, logit_bound=12.0)
        yield from _builds_of(arch, 128, 4, documents=True, logit_bound=12.0)
    yield from _builds_of(90, 64, 4, documents=False, logit_bound=12.0)
    yield from _builds_of(90, 64, 4, documents=False, logit_bound=None, dtype=torch.float16)


def _builds_of(
    arch: int,
    head_dim: int,
    kv_heads: int,
    documents: bool,
    logit_bound: float | None,
    dtype: torch.dtype = torch.bfloat16,
) -> Iterator[Build]:
    from golf_fast.ops.window_attention import launches

    rows, length, heads = (1, 98304, 8) if documents else (48, 2048, 8)

    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    q, out, grad, d_query = (empty(rows, length, heads, head_dim) for _ in range(4))
    k, v, d_key, d_value = (empty(rows, length, kv_heads, head_dim) for _ in range(4))
    lse, delta = (empty(rows, heads, length, dtype=torch.float32) for _ in range(2))
    bounds = empty(2, length, dtype=torch.int32) if documents else None
    tiles = launches.choose_tiles(head_dim, heads // kv_heads, arch)
    label = f"{str(dtype).partition('.')[2]} head dim {head_dim} group {heads // kv_heads}"
    label += " documents" if documents else ""
    label += " bounded" if logit_bound is not None else ""
    launch = launches.forward(q, k, v, bounds, 512, logit_bound, out, lse, tiles)
    yield Build(f"forward {label}", arch, launch, tensor_cores=True)
    if logit_bound is None and dtype != torch.float16 and (head_dim == 64 or kv_heads == 4):
        launch = launches.forward(q, k, v, bounds, 512, empty(dtype=torch.float32), out, lse, tiles)
        yield Build(f"forward {label} bound in memory", arch, launch, tensor_cores=True)
    if logit_bound is not None and not documents:
        return  # the bound is nothing to the backward
    names = ("d_query", "d_key_value")
    both = launches.backward(grad, q, k, v, out, lse, bounds, 512, d_query, d_key, d_value, delta, tiles)
    for name, launch in zip(names, both, strict=True):
        yield Build(f"{name} {label}", arch, launch, tensor_cores=True)


CASES = Cases(window_attention, reference.window_attention, samples, operator_calls, builds)
