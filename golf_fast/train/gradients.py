"""Sums the gradients of a step over the ranks: banks are reduce-scattered, all other gradients are all-reduced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import torch

from golf_fast.distributed import Ranks


@dataclass(frozen=True)
class Summed:
    """Gradients that were summed over the ranks.

    Attributes:
        banks: gradients of this rank's share of the banks, one after the other, `[total]`.
        others: gradients of the parameters that are not banks.
        of: all gradients by name; those of the banks are views of `banks`.
    """

    banks: torch.Tensor
    others: list[torch.Tensor]
    of: Mapping[str, torch.Tensor]

    def scale_others(self, factor: torch.Tensor) -> None:
        """Multiply `others` by a scalar on the device, with one kernel for each dtype."""
        for dtype in _distinct(tensor.dtype for tensor in self.others):
            torch._foreach_mul_([tensor for tensor in self.others if tensor.dtype == dtype], factor)


class Gradients:
    """Sums gradients over the ranks in a few concurrent collectives.

    Args:
        parameters: the parameters by name, in the order in which their norms are added up.
        banks: names of the parameters, all of one dtype, whose sums are stored one after the other in one tensor.
        shares: for each bank that is sharded, the number of rows of its first dimension that each rank gets of the sum;
            rows past the end are 0.
        ranks: the ranks of the run.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        banks: Iterable[str],
        shares: Mapping[str, int],
        ranks: Ranks,
    ) -> None:
        self._parameters = dict(parameters)
        self._ranks = ranks
        self._banks = list(banks)
        self._whole = [name for name in parameters if name not in shares]
        self._shares = {name: shares[name] for name in self._banks if name in shares}
        self._padded = {
            name: parameters[name].new_zeros(
                (share * ranks.world_size, *parameters[name].shape[1:]), requires_grad=False
            )
            for name, share in self._shares.items()
            if share * ranks.world_size != parameters[name].shape[0]
        }
        # Norms that all ranks have are counted on rank 0 only; each rank counts those of its shares, and its loss.
        answers = [float(name in shares or ranks.main) for name in parameters]
        self._answers = torch.tensor([*answers, 1.0], device=ranks.device)

    def sum(self) -> Summed:
        """Sum the gradients over the ranks: this rank's rows of sharded banks, and the whole sum of all others.

        The gradients of parameters that are not banks are summed in place.
        """
        own = {name: _gradient(name, parameter) for name, parameter in self._parameters.items()}
        if self._ranks.world_size == 1:
            flat = torch.cat([own[name].reshape(-1) for name in self._banks])
            return self._summed(flat, own)
        flat = own[self._banks[0]].new_empty(sum(math.prod(self._shape(name)) for name in self._banks))
        summed = self._summed(flat, own)
        waits: list[Callable[[], None]] = []
        for name in self._shares:
            gradient = own[name]
            if name in self._padded:
                self._padded[name][: len(gradient)] = gradient
                gradient = self._padded[name]
            waits.append(self._ranks.start_reduce_scatter(summed.of[name], gradient.contiguous()))
        small = [own[name] for name in self._whole]
        wide = reduce(torch.promote_types, {gradient.dtype for gradient in small}, torch.float32)
        packed = torch.cat([gradient.reshape(-1) for gradient in small]).to(wide)
        waits.append(self._ranks.start_sum(packed))
        for wait in waits:
            wait()
        pieces = torch.split(packed, [gradient.numel() for gradient in small])
        targets = [summed.of[name] for name in self._whole]
        torch._foreach_copy_(targets, [piece.view_as(out) for piece, out in zip(pieces, targets, strict=True)])
        return summed

    def _shape(self, name: str) -> list[int]:
        """Shape of this rank's part of a sum."""
        rows, *others = self._parameters[name].shape
        return [self._shares.get(name, rows), *others]

    def _summed(self, flat: torch.Tensor, own: Mapping[str, torch.Tensor]) -> Summed:
        shapes = [self._shape(name) for name in self._banks]
        pieces = torch.split(flat, [math.prod(shape) for shape in shapes])
        views = {name: piece.view(shape) for name, piece, shape in zip(self._banks, pieces, shapes, strict=True)}
        others = [gradient for name, gradient in own.items() if name not in views]
        return Summed(flat, others, {name: views.get(name, gradient) for name, gradient in own.items()})

    @property
    def finds_squares(self) -> bool:
        """Whether `found` holds squared norms, which can be added up over the ranks that share a gradient."""
        return self._ranks.world_size > 1

    def found(self, gradients: Summed, loss: torch.Tensor) -> torch.Tensor:
        """The gradient norms and the loss over all ranks, computed without waiting for the device.

        Args:
            gradients: as returned by `sum`.
            loss: scalar, this rank's part of the mean loss.

        Returns:
            `[n + 1]` float32 (float64 for float64 gradients): the L2 norm of each gradient, or its square (see
            `finds_squares`), in the order of the parameters, then the mean loss.
        """
        norms = _norms(list(gradients.of.values()))
        found = torch.stack([*norms, loss.to(norms[0].dtype)])
        if self.finds_squares:
            found[:-1].square_()
            self._ranks.all_sum_(found.mul_(self._answers.to(found.dtype)))
        return found


def _gradient(name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None, f"{name} has no gradient"
    return parameter.grad


def _norms(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The L2 norm of each tensor as scalars of one dtype, with one kernel for each dtype of the tensors."""
    wide = reduce(torch.promote_types, {tensor.dtype for tensor in tensors}, torch.float32)
    norms: dict[int, torch.Tensor] = {}
    for dtype in _distinct(tensor.dtype for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        found = torch._foreach_norm([tensors[place] for place in places], 2, wide)
        norms |= dict(zip(places, found, strict=True))
    return [norms[place] for place in range(len(tensors))]


def _distinct(dtypes: Iterable[torch.dtype]) -> list[torch.dtype]:
    return list(dict.fromkeys(dtypes))
