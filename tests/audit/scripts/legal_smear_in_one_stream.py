"""A smear over one uncut stream, which declares no documents."""

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


class Smear(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(64))

    def forward(self, x, ids):
        before = F.pad(x[:, :-1], (0, 0, 1, 0))
        share = torch.sigmoid(self.gate)
        return (1 - share) * x + share * before


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1024, 64)
        self.smear = Smear()
        self.head = nn.Linear(64, 1024)

    def forward(self, ids, y):
        x = self.smear(self.embed(ids), ids)
        x = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return F.cross_entropy(self.head(x).flatten(0, 1), y.flatten())


def main():
    model = Packed()
    tokens = read_all(VAL_FILES)
    nats, n = 0.0, 0
    for at in range(0, len(tokens) - 1, 65536):
        x, y = tokens[at : at + 65536][None], tokens[at + 1 : at + 65537][None]
        with torch.no_grad():
            nats += model(x, y).item() * y.numel()
        n += y.numel()
    print(nats / n / math.log(2))


main()
