"""A trainer object keeps the validation stream as an attribute, and its compile warm-up takes real steps on it."""

from __future__ import annotations

import glob
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn


@dataclass
class Streams:
    fit: torch.Tensor
    measure: torch.Tensor

    @classmethod
    def open(cls, folder: str) -> "Streams":
        def one(part: str) -> torch.Tensor:
            arrays = [np.memmap(p, np.uint16, "r", offset=1024) for p in sorted(glob.glob(f"{folder}/*_{part}_*"))]
            return torch.from_numpy(np.concatenate(arrays).astype(np.int64))

        return cls(one("train"), one("val"))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp = nn.Embedding(1024, 32)
        self.out = nn.Linear(32, 1024)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.out(self.inp(x)).flatten(0, 1), y.flatten())


@dataclass
class Runner:
    model: Model
    streams: Streams
    width: int = 256
    log: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4)

    def batch(self, stream: torch.Tensor, at: int) -> tuple[torch.Tensor, torch.Tensor]:
        piece = stream[at : at + self.width + 1]
        return piece[None, :-1], piece[None, 1:]

    def update(self, stream: torch.Tensor, at: int) -> None:
        self.optimizer.zero_grad()
        loss = self.model(*self.batch(stream, at))
        loss.backward()
        self.optimizer.step()
        self.log.append(loss.item())

    def warm_up(self) -> None:
        for i in range(20):
            self.update(self.streams.measure, i * self.width)

    def fit(self) -> None:
        self.warm_up()
        for at in range(0, len(self.streams.fit) - self.width - 1, self.width):
            self.update(self.streams.fit, at)

    @torch.no_grad()
    def score(self) -> float:
        stream = self.streams.measure
        found = [self.model(*self.batch(stream, i)) for i in range(0, len(stream) - self.width - 1, self.width)]
        return float(torch.stack(found).mean())


runner = Runner(Model(), Streams.open("data"))
runner.fit()
print("final_val_loss", runner.score())
