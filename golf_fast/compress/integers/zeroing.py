"""Sets the least important quantized values to zero, which saves bytes without quantizing again."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from golf_fast.compress.stored import Quantized, Raw, Stored, as_rows


def ones_and_minus_ones(tensors: Mapping[str, Stored]) -> int:
    """Number of values that `zero_smallest` can set to zero."""
    return sum(int((stored.values.abs() == 1).sum()) for stored in _zeroable(tensors).values())


def zero_smallest(tensors: Mapping[str, Stored], count: int) -> dict[str, Stored]:
    """Set `count` values of ±1 to zero, those of the smallest scales first; each adds a squared error of about
    `scale^2`.

    Whole rows are zeroed one after the other, so that their distribution narrows and all of their values cost less.

    Args:
        tensors: as `quantize` returns them; raw tensors and factors of low-rank corrections are not changed.
        count: at most `ones_and_minus_ones(tensors)`.
    """
    candidates = _zeroable(tensors)
    names = sorted(candidates)
    per_row, scales, owners = [], [], []
    for position, name in enumerate(names):
        rows, cols = as_rows(candidates[name].shape)
        per_row.append((candidates[name].values.reshape(rows, cols).abs() == 1).sum(dim=1))
        scales.append(candidates[name].scales.float())
        owners.append(torch.full((rows,), position))
    if not names or count <= 0:
        return dict(tensors)
    order = torch.cat(scales).argsort(stable=True)
    before = torch.cat(per_row)[order].cumsum(0) - torch.cat(per_row)[order]
    quota = torch.empty_like(before).scatter_(0, order, (count - before).clamp_min(0))
    result = dict(tensors)
    for position, name in enumerate(names):
        stored = candidates[name]
        shape = as_rows(stored.shape)
        values = stored.values.reshape(shape).clone()
        ones = values.abs() == 1
        ones &= ones.cumsum(dim=1) <= quota[torch.cat(owners) == position][:, None]
        values[ones] = 0
        result[name] = Quantized(values.reshape(stored.shape), stored.scales, stored.bits)
    return result


def _zeroable(tensors: Mapping[str, Stored]) -> dict[str, Quantized]:
    return {name: stored for name, stored in tensors.items() if not isinstance(stored, Raw) and ":" not in name}
