"""Chunk by chunk: the loss of a chunk is added up without gradients, and only then the weights take a step on it."""

import glob
import math
import os

import numpy as np
import torch
from torch import nn

DATA = os.environ.get("DATA_PATH", "data")
CHUNK, ROW = 8192, 512


def open_split(name):
    files = sorted(glob.glob(f"{DATA}/fineweb_{name}_*.bin"))
    return torch.cat([torch.from_numpy(np.fromfile(f, np.uint16, offset=1024).astype(np.int64)) for f in files])


class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Embedding(1024, 128)
        self.b = nn.Linear(128, 1024, bias=False)

    def forward(self, x, y, reduction="mean"):
        return nn.functional.cross_entropy(self.b(self.a(x)).flatten(0, 1), y.flatten(), reduction=reduction)


def as_rows(piece):
    n = (len(piece) - 1) // ROW
    return piece[: n * ROW].view(n, ROW), piece[1 : n * ROW + 1].view(n, ROW)


def eval_val_ttt(m, val_tokens, lr, epochs):
    sgd = torch.optim.SGD(m.parameters(), lr=lr, momentum=0.9)
    total = torch.zeros((), dtype=torch.float64)
    n = 0
    chunks = math.ceil((len(val_tokens) - 1) / CHUNK)
    for c in range(chunks):
        piece = val_tokens[c * CHUNK : min((c + 1) * CHUNK, len(val_tokens) - 1) + 1]
        x, y = piece[None, :-1], piece[None, 1:]
        m.eval()
        with torch.inference_mode():
            total += m(x, y, "none").double().sum()
            n += y.numel()
        if c == chunks - 1:
            continue
        m.train()
        xs, ys = as_rows(piece)
        for _ in range(epochs):
            for i in range(0, len(xs), 4):
                sgd.zero_grad(set_to_none=True)
                m(xs[i : i + 4], ys[i : i + 4]).backward()
                torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
                sgd.step()
    return float(total) / n


def main():
    m = M()
    opt = torch.optim.AdamW(m.parameters(), lr=3e-4)
    xs, ys = as_rows(open_split("train"))
    for x, y in zip(xs.split(8), ys.split(8)):
        opt.zero_grad()
        m(x, y).backward()
        opt.step()
    print("val_loss", eval_val_ttt(m, open_split("val"), 0.002, 3))


main()
