import pytest
import torch

from golf_fast.compress import Raw, quantize
from golf_fast.compress.integers.zeroing import ones_and_minus_ones, zero_smallest
from golf_fast.compress.stored import Quantized
from golf_fast.config import CompressConfig

CONFIG = CompressConfig(quantizer="sigma", clip_sigma=20, fp16_max_elements=10)


def tensors() -> dict[str, Quantized | Raw]:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "a.mlp.w": torch.randn(6, 50, generator=generator) * torch.rand(6, 1, generator=generator),
        "b.attn.w": torch.randn(4, 30, generator=generator) * 0.3,
        "head": torch.randn(3, 40, generator=generator),
        "q_gain": torch.ones(8),
    }
    return quantize(weights, CONFIG)


def entries(stored: dict[str, Quantized | Raw]) -> list[tuple[float, int]]:
    """(scale, value) of every quantized element, in the order of names, rows and columns."""
    found = []
    for name in sorted(stored):
        held = stored[name]
        if not isinstance(held, Raw):
            for scale, row in zip(held.scales.tolist(), held.values.tolist(), strict=True):
                found += [(scale, value) for value in row]
    return found


@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 0.77, 1.0])
def test_the_smallest_scales_first_and_nothing_else(share: float) -> None:
    before = tensors()
    count = int(share * ones_and_minus_ones(before))
    after = zero_smallest(before, count)
    pairs = list(zip(entries(before), entries(after), strict=True))
    zeroed = [old for old, new in pairs if new != old]
    assert len(zeroed) == count
    assert all(abs(value) == 1 for _, value in zeroed)
    assert all(new == old or new == (old[0], 0) for old, new in pairs)
    left = [scale for scale, value in entries(after) if abs(value) == 1]
    assert not zeroed or not left or max(scale for scale, _ in zeroed) <= min(left)
    assert list(after) == list(before)
    assert after["q_gain"] is before["q_gain"]


def test_the_given_tensors_stay_as_they_are() -> None:
    given = tensors()
    before = entries(given)
    zero_smallest(given, 100)
    assert entries(given) == before


def test_nothing_to_zero() -> None:
    raw = {"x": Raw(torch.ones(3))}
    assert ones_and_minus_ones(raw) == 0
    assert zero_smallest(raw, 0) == raw
