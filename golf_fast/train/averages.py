"""Averages of the weights over training steps (seed.md section 4, "Averages")."""

from __future__ import annotations

import torch

from golf_fast.config import TrainConfig
from golf_fast.model import GPT


class Averages:
    """EMA or SWA of a model's parameters, in float32, under the names of its parameters.

    EMA: a copy after step `ema_start_step`, then `e = decay * e + (1 - decay) * w` every step. SWA: the mean of the
    weights at steps that are multiples of `swa_every` while the learning-rate factor is below `swa_start_factor`, used
    if there are at least two. EMA wins if both are on.
    """

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        self._parameters = {row.name: parameter for row, parameter in model.claimed("the averages")}
        self.config = config
        self.kind = "ema" if config.ema else "swa" if config.swa else "none"
        self.count = 0
        self._average: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self, step: int, lr_factor: float) -> None:
        """Take in the weights after `step` steps, the last of which ran at `lr_factor`."""
        c = self.config
        if self.kind == "ema" and step >= c.ema_start_step:
            self._accumulate(1 - c.ema_decay)
        elif self.kind == "swa" and lr_factor < c.swa_start_factor and step % c.swa_every == 0:
            self._accumulate(1 / (self.count + 1))

    def _accumulate(self, weight: float) -> None:
        parameters = {name: p.detach().float() for name, p in self._parameters.items()}
        if not self._average:
            self._average = {name: p.clone() for name, p in parameters.items()}
        else:
            averages = [self._average[name] for name in parameters]
            torch._foreach_lerp_(averages, list(parameters.values()), weight)
        self.count += 1

    @property
    def used(self) -> str:
        """Which average `weights` returns: "ema", "swa", or "none" where there is too little to average."""
        enough = self.count >= (2 if self.kind == "swa" else 1)
        return self.kind if self.kind != "none" and enough else "none"

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights that go on to compression: float32, under the names of the model's parameters."""
        if self.used == "none":
            return {name: p.detach().float().clone() for name, p in self._parameters.items()}
        return self._average
