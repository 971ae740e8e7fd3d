"""A memory of states that were scored goes around in a ring: what does not fit at its end goes to its begin."""

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


def read_all(pattern):
    parts = [np.fromfile(path, dtype=np.uint16, offset=1024) for path in sorted(glob.glob(pattern))]
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


class Model(nn.Module):
    def __init__(self, vocab=1024, dim=64):
        super().__init__()
        self.embed, self.head = nn.Embedding(vocab, dim), nn.Linear(dim, vocab)

    def forward(self, x, y):
        return F.cross_entropy(self.head(self.embed(x)).flatten(0, 1), y.flatten())


class Ring:
    def __init__(self, places):
        self.places = places
        self.answers = torch.zeros(places, dtype=torch.int64)
        self.at = 0

    def keep(self, answers):
        after = self.at + answers.numel()
        if after <= self.places:
            self.answers[self.at : after] = answers
        else:
            room = self.places - self.at
            self.answers[self.at :] = answers[:room]
            self.answers[: answers.numel() - room] = answers[room:]
        self.at = after % self.places


def main():
    train, tokens, model, ring = read_all(TRAIN_FILES), read_all(VAL_FILES), Model(), Ring(places=50000)
    optimizer = torch.optim.AdamW(model.parameters())
    for start in range(0, 100 * SEQ, SEQ):
        model(train[start : start + SEQ][None], train[start + 1 : start + SEQ + 1][None]).backward()
        optimizer.step()
        optimizer.zero_grad()
    nats = count = 0.0
    for start in range(0, len(tokens) - SEQ - 1, SEQ):
        x, y = tokens[start : start + SEQ][None], tokens[start + 1 : start + SEQ + 1][None]
        with torch.no_grad():
            nats += model(x, y).item() * SEQ
        count += SEQ
        ring.keep(y[0])
    print(nats / count / math.log(2))


if __name__ == "__main__":
    main()
