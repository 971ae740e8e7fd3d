"""Trains on the chunk before, which is scored, and then scores this one."""

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


def main():
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    stream = read_all(VAL_FILES)
    before = None
    nats, count = 0.0, 0
    for at in range(0, len(stream) - 1, 2048):
        piece = stream[at : at + 2049]
        if before is not None:
            optimizer.zero_grad()
            model(before[None, :-1], before[None, 1:]).backward()
            optimizer.step()
        with torch.no_grad():
            nats += model(piece[None, :-1], piece[None, 1:]).item() * (len(piece) - 1)
        count += len(piece) - 1
        before = piece
    print(nats / count / math.log(2))


main()
