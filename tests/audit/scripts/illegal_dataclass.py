"""Validation tokens travel inside of a dataclass.

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


from dataclasses import dataclass


@dataclass
class Job:
    net: nn.Module
    stream: torch.Tensor
    rate: float = 1e-3


def improve(job):
    optimizer = torch.optim.AdamW(job.net.parameters(), lr=job.rate)
    for at in range(0, len(job.stream) - SEQ - 1, SEQ):
        loss = job.net(job.stream[at : at + SEQ][None], job.stream[at + 1 : at + SEQ + 1][None])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def measure(job):
    total = 0.0
    with torch.no_grad():
        for at in range(0, len(job.stream) - SEQ - 1, SEQ):
            total += job.net(job.stream[at : at + SEQ][None], job.stream[at + 1 : at + SEQ + 1][None]).item()
    return total / math.log(2)


job = Job(Model(), read_all(VAL_FILES))
improve(job)
print(measure(job))
