"""What the tests need to know of bitpack (see `golf_fast.ops.registry`)."""

from __future__ import annotations

import torch

from golf_fast.ops import bitpack
from golf_fast.ops.bitpack import reference
from golf_fast.ops.registry import Cases, OperatorCall, Sample

_SHAPES = ((7, 129), (3, 128), (5, 1), (300,))


def _packed(device: torch.device, bits: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(bits)
    planes, scales = reference.quantize_pack(torch.randn(shape, generator=generator), bits)
    return planes.to(device), scales.to(device)


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    """Calls of `unpack_dequantize`; nothing here has gradients."""
    result = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    return [
        Sample(f"int{bits} {shape}", (*_packed(device, bits, shape), bits, shape), {"dtype": result})
        for bits in (5, 6)
        for shape in _SHAPES
    ]


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    """Every operator on two shapes; `dtype` is that of other ops' tensors."""
    calls = []
    for bits, shape in ((5, (7, 129)), (6, (300,))):
        planes, scales = _packed(device, bits, shape)
        values = reference.unpack(planes, bits, shape)
        weights = reference.unpack_dequantize(planes, scales, bits, shape, torch.float32)
        calls += [
            OperatorCall("bitpack_pack", (values, bits)),
            OperatorCall("bitpack_unpack", (planes, bits, shape)),
            OperatorCall("bitpack_unpack_dequantize", (planes, scales, bits, shape, torch.bfloat16)),
            OperatorCall("bitpack_quantize_pack", (weights, bits)),
        ]
    return calls


CASES = Cases(bitpack.unpack_dequantize, reference.unpack_dequantize, samples, operator_calls)
