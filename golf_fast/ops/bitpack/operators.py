"""Packing as operators of torch.library, so that torch.compile keeps them whole; they keep no graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from golf_fast.ops import backends
from golf_fast.ops.bitpack import native, reference
from golf_fast.ops.bitpack.reference import planes_size


def _use_native(device: torch.device) -> bool:
    return backends.resolve("bitpack", device).name == "native"


@torch.library.custom_op("golf_fast::bitpack_pack", mutates_args=())
def pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    return native.pack(values, bits) if _use_native(values.device) else reference.pack(values, bits)


@pack.register_fake
def _(values: torch.Tensor, bits: int) -> torch.Tensor:
    return values.new_empty(planes_size(values.numel(), bits), dtype=torch.uint8)


@torch.library.custom_op("golf_fast::bitpack_unpack", mutates_args=())
def unpack(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    return native.unpack(planes, bits, shape) if _use_native(planes.device) else reference.unpack(planes, bits, shape)


@unpack.register_fake
def _(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    return planes.new_empty(tuple(shape), dtype=torch.int8)


@torch.library.custom_op("golf_fast::bitpack_unpack_dequantize", mutates_args=())
def unpack_dequantize(
    planes: torch.Tensor, scales: torch.Tensor, bits: int, shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    run = native.unpack_dequantize if _use_native(planes.device) else reference.unpack_dequantize
    return run(planes, scales, bits, shape, dtype)


@unpack_dequantize.register_fake
def _(planes: torch.Tensor, scales: torch.Tensor, bits: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return planes.new_empty(tuple(shape), dtype=dtype)


@torch.library.custom_op("golf_fast::bitpack_quantize_pack", mutates_args=())
def quantize_pack(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        native.quantize_pack(weights, bits) if _use_native(weights.device) else reference.quantize_pack(weights, bits)
    )


@quantize_pack.register_fake
def _(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    planes = weights.new_empty(planes_size(weights.numel(), bits), dtype=torch.uint8)
    return planes, weights.new_empty(reference.rows_and_cols(weights.shape)[0], dtype=torch.float16)
