"""The same class with one method that scores each batch before it trains on it."""

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


class Runner:
    def __init__(self, model, stream):
        self.model = model
        self.stream = stream
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.total = 0.0

    def batch(self, number):
        at = number * SEQ
        return self.stream[at : at + SEQ][None], self.stream[at + 1 : at + SEQ + 1][None]

    def run(self):
        for number in range(len(self.stream) // SEQ):
            x, y = self.batch(number)
            with torch.no_grad():
                self.total += self.model(x, y).item()
            self.optimizer.zero_grad()
            self.model(x, y).backward()
            self.optimizer.step()
        return self.total / math.log(2)


runner = Runner(Model(), read_all(VAL_FILES))
print(runner.run())
