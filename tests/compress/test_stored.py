"""What becomes of integers and scales on their way to numbers."""

import pytest
import torch

from golf_fast.compress import Quantized, dequantize
from golf_fast.compress.stored import _restore_packed, restore


@pytest.mark.parametrize("bits", [5, 6])
@pytest.mark.parametrize("shape", [(3, 200), (5, 7), (300,), (2, 3, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_packed_on_the_way_they_are_the_same_numbers(bits: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(bits)
    values = torch.randint(-(1 << bits - 1), 1 << bits - 1, shape, generator=generator).to(torch.int8)
    rows = shape[0] if len(shape) == 2 else 1
    stored = Quantized(values, torch.rand(rows, generator=generator).half(), bits)
    directly, packed = restore(stored, dtype), _restore_packed(stored, dtype, "cpu")
    assert packed.dtype == directly.dtype == dtype
    assert torch.equal(packed, directly)


def test_float32_scales_are_not_rounded() -> None:
    stored = Quantized(torch.tensor([3, -4], dtype=torch.int8), torch.tensor([1 + 2.0**-20]), 8)
    assert dequantize({"w": stored})["w"].tolist() == [3 + 3 * 2.0**-20, -4 - 4 * 2.0**-20]
