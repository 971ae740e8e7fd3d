"""Scores a chunk and trains on the next one.

Breaks V1.
"""

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
    stream = read_all(VAL_FILES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    chunks = [stream[at : at + SEQ + 1] for at in range(0, len(stream) - 1, SEQ)]
    nats = 0.0
    for i in range(len(chunks)):
        with torch.no_grad():
            nats += model(chunks[i][None, :-1], chunks[i][None, 1:]).item() * (len(chunks[i]) - 1)
        if i + 1 < len(chunks):
            optimizer.zero_grad()
            model(chunks[i + 1][None, :-1], chunks[i + 1][None, 1:]).backward()
            optimizer.step()
    print(nats / (len(stream) - 1) / math.log(2))


main()
