"""Hashes of the token itself and of those before it, as features of the input; tables are learned in training only."""

import glob
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = os.environ.get("DATA_PATH", "./data")
SEQ, SLOTS = 1024, 4093


def read_all(pattern):
    parts = [np.fromfile(path, dtype=np.uint16, offset=1024) for path in sorted(glob.glob(pattern))]
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def grams(ids, at, order):
    mixed = torch.zeros_like(at)
    for back in range(order):
        mixed = mixed ^ ids[at - back] * (40503 + 2 * back)
    return (mixed ^ ids[at]) % SLOTS


class Model(nn.Module):
    def __init__(self, vocab=1024, dim=64):
        super().__init__()
        self.embed, self.slots = nn.Embedding(vocab, dim), nn.Parameter(torch.zeros(SLOTS, dim))
        self.head = nn.Linear(dim, vocab)
        self.register_buffer("used", torch.zeros(SLOTS))

    def forward(self, x, y):
        at = torch.arange(2, len(x))
        keys = grams(x, at, 2)
        if self.training:
            self.used.index_add_(0, keys, torch.ones(len(keys)))
        logits = self.head(self.embed(x[2:]) + self.slots[keys])
        return F.cross_entropy(logits, y[2:], reduction="sum")


def main():
    train, val = read_all(os.path.join(ROOT, "fineweb_train_*.bin")), read_all(os.path.join(ROOT, "fineweb_val_*.bin"))
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters())
    for start in range(0, 100 * SEQ, SEQ):
        loss = model(train[start : start + SEQ], train[start + 1 : start + SEQ + 1])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    nats = count = 0.0
    for start in range(0, len(val) - SEQ - 1, SEQ):
        with torch.no_grad():
            nats += model(val[start : start + SEQ], val[start + 1 : start + SEQ + 1]).item()
        count += SEQ - 2
    print(nats / count / math.log(2))


if __name__ == "__main__":
    main()
