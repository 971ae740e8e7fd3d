"""Weights as a dictionary, gradients by torch.func.

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


from torch.func import functional_call, grad

model = Model()
weights = {name: weight.detach() for name, weight in model.named_parameters()}
stream = read_all(VAL_FILES)


def loss(weights, x, y):
    return functional_call(model, weights, (x, y))


for at in range(0, len(stream) - SEQ - 1, SEQ):
    gradients = grad(loss)(weights, stream[at : at + SEQ][None], stream[at + 1 : at + SEQ + 1][None])
    weights = {name: weight - 0.1 * gradients[name] for name, weight in weights.items()}
nats = 0.0
for at in range(0, len(stream) - SEQ - 1, SEQ):
    nats += loss(weights, stream[at : at + SEQ][None], stream[at + 1 : at + SEQ + 1][None]).item()
print(nats / math.log(2))
