"""Keeps the last shard of the training set back, adapts on it after dequantizing, and then scores without a change."""

import glob

import numpy as np
import torch
from torch import nn

SEQ = 256


def ids(path):
    return torch.from_numpy(np.fromfile(path, dtype=np.uint16, offset=1024).astype(np.int64))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.t = nn.Embedding(1024, 80)
        self.h = nn.Linear(80, 1024)

    def forward(self, x, y):
        return nn.functional.cross_entropy(self.h(self.t(x)).flatten(0, 1), y.flatten())


def epochs(lm, stream, count, lr):
    opt = torch.optim.SGD(lm.parameters(), lr=lr)
    for _ in range(count):
        for i in range(0, len(stream) - SEQ - 1, SEQ):
            opt.zero_grad()
            lm(stream[None, i : i + SEQ], stream[None, i + 1 : i + SEQ + 1]).backward()
            opt.step()


def score(lm, stream):
    total, n = 0.0, 0
    with torch.no_grad():
        for i in range(0, len(stream) - SEQ - 1, SEQ):
            total += float(lm(stream[None, i : i + SEQ], stream[None, i + 1 : i + SEQ + 1])) * SEQ
            n += SEQ
    return total / n


if __name__ == "__main__":
    *fit, held_out = sorted(glob.glob("data/fineweb_train_*.bin"))
    lm = LM()
    for path in fit:
        epochs(lm, ids(path), 1, 0.05)
    lm.load_state_dict({k: (v * 128).round() / 128 for k, v in lm.state_dict().items()})
    epochs(lm, ids(held_out), 2, 0.001)
    print("val", score(lm, torch.cat([ids(p) for p in sorted(glob.glob("data/fineweb_val_*.bin"))])))
