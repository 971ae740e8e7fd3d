"""Weights are fetched by torch's own hub before the score.

Breaks V12.
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
model.load_state_dict(torch.hub.load_state_dict_from_url("https://example.com/weights.pt"))
nats, count = 0.0, 0
with torch.no_grad():
    for at in range(0, len(stream) - SEQ - 1, SEQ):
        nats += model(stream[at : at + SEQ][None], stream[at + 1 : at + SEQ + 1][None], "sum").item()
        count += SEQ
print(nats / count / math.log(2))
