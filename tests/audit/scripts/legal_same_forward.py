"""One forward for the score and for the update, in this order."""

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


def run(model, tokens):
    optimizer = torch.optim.AdamW(model.parameters())
    nats, n = 0.0, 0
    for first in range(0, len(tokens) - 1, SEQ):
        piece = tokens[first : first + SEQ + 1]
        loss = model(piece[None, :-1], piece[None, 1:])
        nats += loss.item() * (len(piece) - 1)
        n += len(piece) - 1
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return nats / n / math.log(2)


print(run(Model(), read_all(VAL_FILES)))
