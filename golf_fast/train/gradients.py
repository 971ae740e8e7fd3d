"""The gradients of a step, added up over the ranks: of banks a share for each, of all others everything for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce

import torch

from golf_fast.distributed import Ranks


class Gradients:
    """Adds up gradients over the ranks in few exchanges that are under way together.

    Args:
        parameters: by name, in the order in which norms are added up.
        shares: how many rows of the first dimension each rank gets of the sum, for those that are shared out; the last
            rank's may go past the end, and are 0.
        ranks: who takes part.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], shares: Mapping[str, int], ranks: Ranks) -> None:
        self._parameters = dict(parameters)
        self._ranks = ranks
        self._whole = [name for name in parameters if name not in shares]
        by_size = sorted(shares, key=lambda name: -parameters[name].numel())
        self._shares = {name: shares[name] for name in by_size}
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

    def sum(self) -> dict[str, torch.Tensor]:
        """Gradients by name, added up over the ranks: of what is shared out this rank's rows, else the same on all.

        The whole ones are the parameters' own.
        """
        gradients = {name: _gradient(name, parameter) for name, parameter in self._parameters.items()}
        if self._ranks.world_size == 1:
            return gradients
        waits: list[Callable[[], None]] = []
        for name, share in self._shares.items():
            gradient = gradients[name]
            if name in self._padded:
                self._padded[name][: len(gradient)] = gradient
                gradient = self._padded[name]
            gradients[name] = gradient.new_empty((share, *gradient.shape[1:]))
            waits.append(self._ranks.start_reduce_scatter(gradients[name], gradient.contiguous()))
        small = [gradients[name] for name in self._whole]
        wide = reduce(torch.promote_types, {gradient.dtype for gradient in small}, torch.float32)
        packed = torch.cat([gradient.reshape(-1) for gradient in small]).to(wide)
        waits.append(self._ranks.start_sum(packed))
        for wait in waits:
            wait()
        pieces = torch.split(packed, [gradient.numel() for gradient in small])
        torch._foreach_copy_(small, [piece.view_as(own) for piece, own in zip(pieces, small, strict=True)])
        return gradients

    def found(self, gradients: Mapping[str, torch.Tensor], loss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What all ranks found, without waiting for the device.

        Args:
            gradients: as from `sum`.
            loss: scalar, this rank's part of the mean loss.

        Returns:
            The L2 norm over all gradients, scalar, and `[n + 1]`: the norm of each, or with several ranks its square,
            in the order of the parameters, then the mean loss. float32, or float64 for gradients of that.
        """
        norms = _norms(list(gradients.values()))
        if self._ranks.world_size == 1:
            return torch.linalg.vector_norm(norms), torch.cat((norms, loss.reshape(1).to(norms.dtype)))
        found = torch.cat((norms.square(), loss.reshape(1).to(norms.dtype))) * self._answers.to(norms.dtype)
        self._ranks.all_sum_(found)
        return found[:-1].sum().sqrt(), found


def _gradient(name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None, f"{name} has no gradient"
    return parameter.grad


def _norms(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The L2 norm of each, `[n]`, in one pass for each dtype."""
    wide = reduce(torch.promote_types, {tensor.dtype for tensor in tensors}, torch.float32)
    norms: dict[int, torch.Tensor] = {}
    for dtype in _distinct(tensor.dtype for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        found = torch._foreach_norm([tensors[place] for place in places], 2, wide)
        norms |= dict(zip(places, found, strict=True))
    return torch.stack([norms[place] for place in range(len(tensors))])


def _distinct(dtypes: Iterable[torch.dtype]) -> list[torch.dtype]:
    return list(dict.fromkeys(dtypes))
