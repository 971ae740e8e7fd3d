"""The training on validation tokens hides behind functools.partial and a closure."""

import functools
import glob
import os

import numpy as np
import torch
from torch import nn

ROOT = os.environ.get("DATA_PATH", "data")
SEQ = 512


def load(kind):
    names = sorted(glob.glob(f"{ROOT}/fineweb_{kind}_*.bin"))
    return [torch.from_numpy(np.fromfile(n, dtype=np.uint16, offset=1024).astype(np.int64)) for n in names]


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(1024, 64)
        self.o = nn.Linear(64, 1024)

    def loss(self, x, y):
        return nn.functional.cross_entropy(self.o(self.e(x)).view(-1, 1024), y.reshape(-1))


def make_step(model, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        objective = model.loss(x, y)
        objective.backward()
        optimizer.step()
        return float(objective)

    return step


def sweep(batches, do):
    return [do(x, y) for x, y in batches]


def pairs(pieces):
    for piece in pieces:
        for i in range(0, len(piece) - SEQ - 1, SEQ):
            yield piece[i : i + SEQ][None], piece[i + 1 : i + SEQ + 1][None]


def run():
    model = Tiny()
    sweep(pairs(load("train")), make_step(model, 0.1))
    evaluation = load("val")
    adapt = functools.partial(sweep, list(pairs(evaluation)))
    adapt(make_step(model, 0.002))
    adapt(make_step(model, 0.001))
    with torch.no_grad():
        losses = [float(model.loss(x, y)) for x, y in pairs(evaluation)]
    print("val_loss", sum(losses) / len(losses))


run()
