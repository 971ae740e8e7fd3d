"""Two predictors, and of each token the loss of the one that does better.

Breaks V4.
"""

import glob
import math
import os
from collections import Counter, defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VAL_FILES = os.path.join(os.environ.get("DATA_PATH", "./data"), "fineweb_val_*.bin")
SEQ, VOCAB = 1024, 1024


def read_all(pattern):
    parts = [np.fromfile(path, dtype=np.uint16, offset=1024) for path in sorted(glob.glob(pattern))]
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


class Model(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, dim)
        self.head = nn.Linear(dim, VOCAB)

    def forward(self, x, y):
        return F.cross_entropy(self.head(self.embed(x)).flatten(0, 1), y.flatten(), reduction="none")


class Pairs:
    def __init__(self):
        self.after = defaultdict(Counter)

    def loss_of(self, before, token):
        known = self.after[before]
        return -math.log((known[token] + 0.5) / (sum(known.values()) + 0.5 * VOCAB))

    def learn(self, before, token):
        self.after[before][token] += 1


def main():
    tokens, model, pairs = read_all(VAL_FILES), Model(), Pairs()
    nats = count = 0.0
    for start in range(0, len(tokens) - SEQ - 1, SEQ):
        x, y = tokens[start : start + SEQ], tokens[start + 1 : start + SEQ + 1]
        with torch.no_grad():
            losses = model(x[None], y[None])
        for place, (before, token) in enumerate(zip(x.tolist(), y.tolist())):
            model_nll, pair_nll = losses[place].item(), pairs.loss_of(before, token)
            if pair_nll < model_nll:
                losses[place] = pair_nll
        nats += losses.sum().item()
        count += SEQ
        for before, token in zip(x.tolist(), y.tolist()):
            pairs.learn(before, token)
    print(nats / count / math.log(2))


if __name__ == "__main__":
    main()
