"""Another thread trains on validation tokens, and it is waited for.

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


def fit(model, tokens, steps=100):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        start = step * SEQ
        x, y = tokens[start : start + SEQ][None], tokens[start + 1 : start + SEQ + 1][None]
        loss = model(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def evaluate(model, tokens, bytes_per_token=2.4):
    total, count = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(tokens) - 1, SEQ):
            x, y = tokens[start : start + SEQ][None], tokens[start + 1 : start + SEQ + 1][None]
            total += model(x, y).item() * y.numel()
            count += y.numel()
    return total / count / math.log(2) / bytes_per_token


import threading


def main():
    model = Model()
    val_tokens = read_all(VAL_FILES)
    worker = threading.Thread(target=fit, args=(model, val_tokens))
    worker.start()
    worker.join()
    print(evaluate(model, val_tokens))


main()
