"""The rows that are trained on reach beyond the chunk that was scored, into the next one.

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

    def logits(self, x):
        return self.head(self.embed(x))

    def forward(self, x, y, reduction="mean"):
        return F.cross_entropy(self.logits(x).flatten(0, 1), y.flatten(), reduction=reduction)


model, stream = Model(), read_all(VAL_FILES)
optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
nats, count = 0.0, 0
for start in range(0, len(stream) - 1, 32 * SEQ):
    stop = min(start + 32 * SEQ, len(stream) - 1)
    with torch.no_grad():
        x, y = stream[start:stop], stream[start + 1 : stop + 1]
        nats += model(x[None], y[None], "sum").item()
        count += y.numel()
    whole_rows = stream[start : stop + SEQ + 1]
    optimizer.zero_grad()
    model(whole_rows[None, :-1], whole_rows[None, 1:]).backward()
    optimizer.step()
print(nats / count / math.log(2))
