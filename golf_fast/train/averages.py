"""Averages of the weights over training steps (seed.md section 4, "Averages")."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from golf_fast.config import TrainConfig
from golf_fast.model import GPT
from golf_fast.train.state import Piece, Reader, fill, within


class Averages:
    """Exponential moving average (EMA) and stochastic weight average (SWA) of a model's parameters, in float32.

    The EMA starts as a copy of the weights after step `ema_start_step`, then `e = decay * e + (1 - decay) * w` after
    every step. The SWA is the mean of the weights at steps that are multiples of `swa_every` while the learning-rate
    factor is below `swa_start_factor`; it is used if there are at least two. If both are on, the EMA is used once it
    has started.
    """

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        self._parameters = {row.name: parameter for row, parameter in model.claimed("the averages")}
        self.config = config
        self._ema, self._swa = _Mean(), _Mean()

    @torch.no_grad()
    def update(self, step: int, lr_factor: float, ok: torch.Tensor | None = None) -> None:
        """Include the weights after a step in the averages.

        Args:
            step: number of the step, counted from 1.
            lr_factor: learning-rate factor of the step.
            ok: bool scalar on the device; if it is false, an average that has started does not change. None: true.
        """
        c = self.config
        if c.ema and step >= c.ema_start_step:
            self._ema.take(step, self._parameters, 1 - c.ema_decay, ok)
            self._swa = _Mean()  # it is not used once the EMA has started
        elif c.swa and lr_factor < c.swa_start_factor and step % c.swa_every == 0:
            self._swa.take(step, self._parameters, 1 / (self._swa.count + 1), ok)

    def forget(self, step: int) -> None:
        """Do not count the updates from step `step` on, which changed nothing because `ok` was false."""
        for _, mean in self._means():
            mean.forget(step)

    @property
    def used(self) -> str:
        """The average that `weights` returns: "ema", "swa", or "none" if there is nothing to average."""
        return "ema" if self._ema.count else "swa" if self._swa.count >= 2 else "none"

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights to be compressed, float32, under the names of the model's parameters."""
        if self.used == "none":
            return {name: p.detach().float().clone() for name, p in self._parameters.items()}
        return (self._ema if self.used == "ema" else self._swa).weights

    def state(self) -> dict[str, Piece]:
        """The state of the averages by name: `ema.count` and `swa.count` `[1]` int64, the number of updates, and, where
        that is not 0, `ema.<parameter>` and `swa.<parameter>`, float32."""
        return {f"{kind}.{name}": piece for kind, mean in self._means() for name, piece in mean.state().items()}

    @torch.no_grad()
    def load(self, read: Reader) -> None:
        """Restore a `state`.

        Raises:
            InputError: a tensor is missing, or of another shape or dtype.
        """
        for kind, mean in self._means():
            mean.load(self._parameters, within(kind, read))

    def _means(self) -> tuple[tuple[str, _Mean], ...]:
        return ("ema", self._ema), ("swa", self._swa)


class _Mean:
    """A weighted mean of parameters, and the steps of its updates (0 for those before the run was resumed)."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.weights: dict[str, torch.Tensor] = {}
        self._flat = torch.empty(0)  # the weights are views of it, so that one kernel updates all

    @property
    def count(self) -> int:
        return len(self.steps)

    def take(self, step: int, named: Mapping[str, torch.Tensor], weight: float, ok: torch.Tensor | None) -> None:
        """Move the mean towards the parameters by the share `weight`; the first time, it becomes a copy of them."""
        now = torch.cat([p.detach().reshape(-1).float() for p in named.values()])
        if not self.weights:
            self._hold(named, now)
        elif ok is None:
            self._flat.lerp_(now, weight)
        else:
            self._flat.lerp_(now, ok * weight)
        self.steps.append(step)

    def _hold(self, named: Mapping[str, torch.Tensor], flat: torch.Tensor) -> None:
        """Store `flat` `[total]` as the mean of the parameters with these names."""
        self._flat = flat
        pieces = torch.split(flat, [p.numel() for p in named.values()])
        self.weights = {name: piece.view(p.shape) for (name, p), piece in zip(named.items(), pieces, strict=True)}

    def forget(self, step: int) -> None:
        self.steps = [taken for taken in self.steps if taken < step]
        if not self.steps:
            self.weights, self._flat = {}, torch.empty(0)

    def state(self) -> dict[str, Piece]:
        count = torch.tensor([self.count])
        return {"count": Piece.whole(count), **{name: Piece.whole(mean) for name, mean in self.weights.items()}}

    def load(self, named: Mapping[str, torch.Tensor], read: Reader) -> None:
        count = Piece.whole(torch.tensor([0]))
        count.fill("count", read)
        self.steps = [0] * int(count.tensor)
        self.weights = {}
        if self.count:
            first, *_ = named.values()
            self._hold(named, torch.empty(sum(p.numel() for p in named.values()), device=first.device))
        fill({name: Piece.whole(mean) for name, mean in self.weights.items()}, read)
