"""Chunks in a dataclass, scored in a helper before the update."""

import glob
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VAL_FILES = os.path.join(os.environ.get("DATA_PATH", "./data"), "fineweb_val_*.bin")
TRAIN_FILES = os.path.join(os.environ.get("DATA_PATH", "./data"), "fineweb_train_*.bin")
SEQ = 1024


def read_shard(path):
    return torch.from_numpy(np.fromfile(path, dtype=np.uint16, offset=1024).astype(np.int64))


def read_all(pattern):
    return torch.cat([read_shard(path) for path in sorted(glob.glob(pattern))])


class Model(nn.Module):
    def __init__(self, vocab=1024, dim=64):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.head = nn.Linear(dim, vocab)

    def forward(self, x, y):
        logits = self.head(self.embed(x))
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


from dataclasses import dataclass


@dataclass
class Chunk:
    x: torch.Tensor
    y: torch.Tensor


@dataclass
class Totals:
    nats: float = 0.0
    count: int = 0


def cut(stream, size):
    return [
        Chunk(stream[a : a + size][None], stream[a + 1 : a + size + 1][None]) for a in range(0, len(stream) - 1, size)
    ]


def tally(model, chunk, totals):
    with torch.no_grad():
        loss = model(chunk.x, chunk.y)
    totals.nats += loss.item() * chunk.y.numel()
    totals.count += chunk.y.numel()


def update(model, optimizer, chunk):
    optimizer.zero_grad()
    model(chunk.x, chunk.y).backward()
    optimizer.step()


def main():
    model, totals = Model(), Totals()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for chunk in cut(read_all(VAL_FILES), 2048):
        tally(model, chunk, totals)
        update(model, optimizer, chunk)
    print(totals.nats / totals.count / math.log(2))


main()
