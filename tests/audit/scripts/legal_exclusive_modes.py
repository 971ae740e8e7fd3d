"""One mode trains on training tokens and scores, the other adapts score-first; a run takes one."""

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


def adapt(model, tokens, chunk=32768):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    chunks = (len(tokens) - 1 + chunk - 1) // chunk
    loss_sum = torch.zeros((), dtype=torch.float64)
    count = 0
    for c in range(chunks):
        first, last = c * chunk, min((c + 1) * chunk, len(tokens) - 1)
        with torch.no_grad():
            for start in range(first, last, SEQ):
                end = min(start + SEQ, last)
                loss = model(tokens[start:end][None], tokens[start + 1 : end + 1][None])
                loss_sum += loss.double() * (end - start)
                count += end - start
        if c < chunks - 1:
            for epoch in range(3):
                for start in range(first, last - SEQ, SEQ):
                    loss = model(tokens[start : start + SEQ][None], tokens[start + 1 : start + SEQ + 1][None])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    return loss_sum.item() / count / math.log(2.0)


def main(mode="plain"):
    model = Model()
    fit(model, read_all(TRAIN_FILES))
    val_tokens = read_all(VAL_FILES)
    if mode == "adapt":
        print("val_bpb", adapt(model, val_tokens))
    if mode == "plain":
        print("val_bpb", evaluate(model, val_tokens))


main()
