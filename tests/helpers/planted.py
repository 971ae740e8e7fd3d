"""Kernels that each break one rule of the compile gates, to show that the gates see it."""

from __future__ import annotations

import dataclasses

import torch
import triton
import triton.language as tl

from golf_fast.ops.launch import Launch
from golf_fast.ops.registry import Build


@triton.jit
def product_kernel(a, b, c, K, SIZE: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.arange(0, SIZE)
    inner = tl.arange(0, BLOCK_K)
    total = tl.zeros((SIZE, SIZE), tl.float32)
    for k in range(0, K, BLOCK_K):
        left = tl.load(a + rows[:, None] * K + k + inner)
        right = tl.load(b + rows[None, :] * K + k + inner[:, None])
        total = tl.dot(left, right, total)
    tl.store(c + rows[:, None] * SIZE + rows, total)


def _product(size: int, block_k: int, warps: int, stages: int) -> Launch:
    a, b, c = (torch.empty(size, 1024, dtype=torch.bfloat16, device="meta") for _ in range(3))
    arguments = {"a": a, "b": b, "c": c.float(), "K": 1024, "SIZE": size, "BLOCK_K": block_k}
    return Launch("planted", product_kernel, (1,), arguments, warps, stages)


@triton.jit
def copy_kernel(a, c, SIZE: tl.constexpr):
    offsets = tl.arange(0, SIZE)
    tl.store(c + offsets, tl.load(a + offsets))


def builds() -> list[Build]:
    """One build that is right, then one for each rule that it breaks."""
    a = torch.empty(128, device="meta")
    copy = Launch("planted", copy_kernel, (1,), {"a": a, "c": a, "SIZE": 128}, 4, 1)
    crowded = dataclasses.replace(_product(128, 64, 8, 4), max_registers=128)
    return [
        Build("sound", 90, _product(128, 64, 8, 3), tensor_cores=True),
        Build("sound", 80, _product(128, 64, 8, 3), tensor_cores=True),
        Build("spills", 90, _product(256, 64, 4, 2), tensor_cores=True),
        Build("spills", 80, _product(256, 32, 4, 2), tensor_cores=True),
        Build("too much shared memory", 90, _product(128, 128, 8, 5), tensor_cores=True),
        Build("too much shared memory", 80, _product(128, 64, 8, 7), tensor_cores=True),
        Build("no tensor cores", 90, copy, tensor_cores=True),
        Build("no tensor cores", 80, copy, tensor_cores=True),
        Build("too few programs", 90, crowded, tensor_cores=True),
        Build("no TMA", 90, _product(128, 64, 8, 3), tensor_cores=True, tma=True),
    ]
