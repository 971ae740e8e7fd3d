"""What holds for any values and any weights that are packed."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.ops import bitpack


@settings(max_examples=60)
@given(data=st.data(), bits=st.sampled_from([5, 6]))
def test_round_trip(data: st.DataObject, bits: int) -> None:
    limit = 2 ** (bits - 1)
    rows = data.draw(st.lists(st.lists(st.integers(-limit, limit - 1), max_size=200), max_size=3))
    values = torch.tensor([q for row in rows for q in row], dtype=torch.int8)
    assert torch.equal(bitpack.unpack(bitpack.pack(values, bits), bits, values.shape), values)


@settings(max_examples=60)
@given(data=st.data(), bits=st.sampled_from([5, 6]), rows=st.integers(0, 4), cols=st.integers(0, 150))
def test_quantized_weights_are_near(data: st.DataObject, bits: int, rows: int, cols: int) -> None:
    """Within half a scale of the weight, half a last place of the fp16 scale at the largest one aside."""
    seed, magnitude = data.draw(st.integers(0, 2**31)), data.draw(st.floats(2.0**-9, 1e4))
    weights = magnitude * (2 * torch.rand(rows, cols, generator=torch.Generator().manual_seed(seed)) - 1)
    planes, scales = bitpack.quantize_pack(weights, bits)
    back = bitpack.unpack_dequantize(planes, scales, bits, (rows, cols))
    bound = scales.double().unsqueeze(1) * 0.5 + weights.double().abs() * 2.0**-11
    assert bool(((back.double() - weights.double()).abs() <= bound * (1 + 1e-6)).all())
