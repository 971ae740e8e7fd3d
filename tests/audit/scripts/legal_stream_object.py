"""The same stream object, score first."""

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


class Stream:
    def __init__(self, tokens):
        self.tokens, self.at = tokens, 0

    def take(self, n):
        piece = self.tokens[self.at : self.at + n + 1]
        self.at += n
        return piece if len(piece) > n else None


def main():
    model = Model()
    tokens = read_all(VAL_FILES)
    source, nats = Stream(tokens), 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while (piece := source.take(SEQ)) is not None:
        with torch.no_grad():
            nats += model(piece[None, :-1], piece[None, 1:]).item()
        optimizer.zero_grad()
        model(piece[None, :-1], piece[None, 1:]).backward()
        optimizer.step()
    print(nats / math.log(2))


main()
