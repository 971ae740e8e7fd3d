"""Trains on a chunk, then scores it.

Breaks V2.
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


def adapt(model, tokens, chunk=32768):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
    loss_sum, count = 0.0, 0
    for first in range(0, len(tokens) - 1, chunk):
        x, y = tokens[first : first + chunk][None], tokens[first + 1 : first + chunk + 1][None]
        loss = model(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            loss_sum += model(x, y).item() * y.numel()
        count += y.numel()
    return loss_sum / count / math.log(2.0)


print("val_bpb", adapt(Model(), read_all(VAL_FILES)))
