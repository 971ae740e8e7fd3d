"""The gradients of a step, added up over the ranks: of banks a share for each, of all others everything for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import torch

from golf_fast.distributed import Ranks


@dataclass(frozen=True)
class Summed:
    """Gradients that were added up over the ranks.

    Attributes:
        banks: those of the banks, one after the other, `[total]`.
        others: those of no bank.
        of: all by name; of the banks, views.
    """

    banks: torch.Tensor
    others: list[torch.Tensor]
    of: Mapping[str, torch.Tensor]

    def scale_others(self, factor: torch.Tensor) -> None:
        """Multiply those of no bank by a scalar on the device, in one pass for each dtype."""
        for dtype in _distinct(tensor.dtype for tensor in self.others):
            torch._foreach_mul_([tensor for tensor in self.others if tensor.dtype == dtype], factor)


class Gradients:
    """Adds up gradients over the ranks in few exchanges that are under way together.

    Args:
        parameters: by name, in the order in which norms are added up.
        banks: those of one dtype whose sums are to lie one after the other in one tensor.
        shares: of these, how many rows of the first dimension each rank gets of the sum, for those that are shared out;
            the last rank's may go past the end, and are 0.
        ranks: who takes part.
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
        # Rank 0 answers for the norms that all have, and each rank for those of its shares and for its loss.
        answers = [float(name in shares or ranks.main) for name in parameters]
        self._answers = torch.tensor([*answers, 1.0], device=ranks.device)

    def sum(self) -> Summed:
        """The gradients, added up over the ranks: of what is shared out this rank's rows, else the same on all.

        Those of no bank are the parameters' own.
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
        """Of what this rank gets of a sum."""
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
        """Whether `found` has the squares of norms: what several ranks have a share of is added up."""
        return self._ranks.world_size > 1

    def found(self, gradients: Summed, loss: torch.Tensor) -> torch.Tensor:
        """What all ranks found, without waiting for the device.

        Args:
            gradients: as from `sum`.
            loss: scalar, this rank's part of the mean loss.

        Returns:
            `[n + 1]`: the L2 norm of each gradient, or its square (`finds_squares`), in the order of the parameters,
            then the mean loss. float32, or float64 for gradients of that.
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
    """The L2 norm of each, scalars of one dtype, in one pass for each dtype of the tensors."""
    wide = reduce(torch.promote_types, {tensor.dtype for tensor in tensors}, torch.float32)
    norms: dict[int, torch.Tensor] = {}
    for dtype in _distinct(tensor.dtype for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        found = torch._foreach_norm([tensors[place] for place in places], 2, wide)
        norms |= dict(zip(places, found, strict=True))
    return [norms[place] for place in range(len(tensors))]


def _distinct(dtypes: Iterable[torch.dtype]) -> list[torch.dtype]:
    return list(dict.fromkeys(dtypes))
