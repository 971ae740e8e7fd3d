"""A copy of the model for each document: one pass gives the loss that counts and the gradient, the loss is read before
the step and summed outside.
"""

import copy
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


class Learner:
    def __init__(self, model):
        self.model = copy.deepcopy(model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def __call__(self, piece):
        loss = self.model(piece[None, :-1], piece[None, 1:])
        said = loss.item() * (len(piece) - 1)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return said


model, stream = Model(), read_all(VAL_FILES)
bounds = [*(stream == 1).nonzero().flatten().tolist(), len(stream) - 1]
nats = 0.0
for first, last in zip(bounds[:-1], bounds[1:]):
    learner = Learner(model)
    nats += sum(learner(stream[at : min(at + 256, last) + 1]) for at in range(first, last, 256))
print(nats / (bounds[-1] - bounds[0]) / math.log(2))
