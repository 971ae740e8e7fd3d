"""GPTQ (Frantar et al., arXiv 2210.17323): the weights not yet rounded compensate for the errors of those that are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch

from golf_fast.compress.integers.rounding import Matrix, limit_of
from golf_fast.compress.integers.trellis import Trellis, path_block, shrink_of
from golf_fast.distributed import Ranks

DAMPING = 0.01
"""Share of the mean of a Hessian's diagonal that is added to the diagonal (section 3.3, step 3)."""
BLOCK = 128
"""Number of columns that are rounded before their errors are applied to all later columns (section 3.3, step 2)."""

TOGETHER = 8
"""Number of matrices rounded at a time: enough to keep a GPU busy, few enough for its caches and a laptop's memory."""


def gptq_values(
    matrices: Sequence[Matrix],
    hessians: Mapping[str, torch.Tensor],
    ranks: Ranks | None = None,
    check: Callable[[], object] = lambda: None,
    trellis: Trellis | None = None,
) -> dict[str, torch.Tensor]:
    """The integers of each matrix, int8 on the CPU, by name.

    Args:
        matrices: the 2-D matrices by name.
        hessians: as for `quantize`, one for each matrix; the computation runs on the device of the Hessians.
        ranks: the ranks that share the work on every group of equal shape and width; all get all results.
        check: called before each group, equally often on every rank; an exception that it raises is passed on.
        trellis: the trellis that the columns follow; None: each weight is rounded to the nearest integer of its width.
    """
    groups: dict[tuple[int, int, int], list[Matrix]] = defaultdict(list)
    for matrix in matrices:
        groups[matrix.weights.shape[0], matrix.weights.shape[1], matrix.bits].append(matrix)
    values: dict[str, torch.Tensor] = {}
    for (rows, cols, bits), members in groups.items():
        check()
        device = hessians[members[0].name].device
        ranks = ranks or Ranks.single(device)
        share = -(-len(members) // ranks.world_size)
        own = members[ranks.rank * share : (ranks.rank + 1) * share]
        done = torch.zeros(share, rows, cols, dtype=torch.int8, device=device)
        for first in range(0, len(own), TOGETHER):
            batch = own[first : first + TOGETHER]
            done[first : first + len(batch)] = round_columns(
                torch.stack([matrix.weights for matrix in batch]).to(device),
                torch.stack([matrix.scales.float() for matrix in batch]).to(device),
                torch.stack([hessians[matrix.name] for matrix in batch]),
                -limit_of(bits),
                limit_of(bits),
                trellis,
            )
        gathered = ranks.all_gather_into(
            torch.empty(share * ranks.world_size, *done.shape[1:], dtype=done.dtype, device=device), done
        )
        values |= {matrix.name: integers for matrix, integers in zip(members, gathered.cpu(), strict=False)}
    return values


def round_columns(
    weights: torch.Tensor,
    scales: torch.Tensor,
    hessian: torch.Tensor,
    low: int,
    high: int,
    trellis: Trellis | None = None,
) -> torch.Tensor:
    """Integers `q` for which `q * scales` has nearly the outputs of `weights`, for inputs of the Gram matrix `hessian`.

    Columns are rounded in the order of falling diagonal entries (act-order), so that the most important ones have the
    most others left to compensate for them. A column whose input was always 0 is rounded to the nearest integers.

    Args:
        weights: `[n, rows, cols]` float32, matrices of equal shape.
        scales: `[n, rows]` float32, more than 0: the value of the integer 1.
        hessian: `[n, cols, cols]` float32, sums of `x x^T` over inputs x, in any unit.
        low: smallest integer.
        high: largest integer.
        trellis: the trellis that the integers of each column follow, from the first row to the last, after compensation
            of earlier columns; its integers have the range of int8. On a GPU each block of columns is computed on the
            CPU.

    Returns:
        `[n, rows, cols]` int8, on the device of `weights`.

    Raises:
        ValueError: a Hessian is not finite, or so far from positive definite that damping does not help.
    """
    order = torch.diagonal(hessian, dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    sorted_rows = hessian.gather(1, order[:, :, None].expand_as(hessian))
    factor = _inverse_factor(sorted_rows.gather(2, order[:, None, :].expand_as(hessian)))
    # Transposed, so that a column is contiguous in memory.
    columns = order[:, :, None].expand(-1, -1, weights.shape[1])
    left = weights.transpose(1, 2).gather(1, columns)
    rounded = torch.empty_like(left)
    steps = scales.cpu()
    shrink = shrink_of(weights.cpu(), steps, trellis.rate) if trellis else None
    for start in range(0, left.shape[1], BLOCK):
        stop = min(start + BLOCK, left.shape[1])
        block, inner = left[:, start:stop].clone(), factor[:, start:stop, start:stop]
        if trellis:
            found, errors = path_block(block.cpu(), inner.cpu(), steps, trellis.states, shrink)
            rounded[:, start:stop], errors = found.to(rounded), errors.to(rounded)
        else:
            rounded[:, start:stop], errors = _nearest_block(block, inner, scales, low, high)
        left[:, stop:] -= factor[:, start:stop, stop:].transpose(1, 2) @ errors
    unsorted = torch.empty_like(rounded).scatter_(1, columns, rounded)
    return unsorted.transpose(1, 2).to(torch.int8, memory_format=torch.contiguous_format)


def _nearest_block(
    block: torch.Tensor, inner: torch.Tensor, scales: torch.Tensor, low: int, high: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The integers of a block of columns `[n, width, rows]`, which is modified, and their errors divided by the
    diagonal."""
    rounded, errors = torch.empty_like(block), torch.empty_like(block)
    for column in range(block.shape[1]):
        integer = (block[:, column] / scales).round_().clamp_(low, high)
        rounded[:, column] = integer
        error = (block[:, column] - integer * scales).div_(inner[:, column, column, None])
        errors[:, column] = error
        block[:, column + 1 :].addcmul_(inner[:, column, column + 1 :, None], error[:, None, :], value=-1)
    return rounded, errors


def _inverse_factor(hessian: torch.Tensor) -> torch.Tensor:
    """The upper triangular U `[n, cols, cols]` for which `U^T U` is the inverse of the damped Hessian."""
    diagonal = torch.diagonal(hessian, dim1=1, dim2=2)
    mean = diagonal.mean(dim=1, keepdim=True).clamp_min(torch.finfo(hessian.dtype).tiny)
    damped = hessian.double() / mean[:, :, None]
    torch.diagonal(damped, dim1=1, dim2=2).add_(DAMPING)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if bool(failed.any()) or not bool(torch.isfinite(lower).all()):
        raise ValueError("hessian: it is not positive definite even with damping; its inputs must be finite")
    inverse = torch.cholesky_inverse(lower)
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor.to(hessian.dtype)
