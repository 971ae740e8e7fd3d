"""A low-rank adapter for each document: every chunk is scored under the adapter of the chunks before it."""

import glob

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BOS, SPAN = 1, 48


class Base(nn.Module):
    def __init__(self, vocab=1024, width=96):
        super().__init__()
        self.word = nn.Embedding(vocab, width)
        self.up = nn.Linear(width, width, bias=False)

    def forward(self, ids, adapter=None):
        x = self.word(ids)
        x = x + self.up(x)
        logits = x @ self.word.weight.T
        return logits if adapter is None else logits + adapter(x)


class Adapter(nn.Module):
    def __init__(self, width=96, vocab=1024, rank=8):
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, width).uniform_(-0.1, 0.1))
        self.out = nn.Parameter(torch.zeros(vocab, rank))

    def forward(self, x):
        return x @ self.down.T @ self.out.T


def documents(stream):
    starts = (stream == BOS).nonzero().flatten().tolist() + [len(stream)]
    for first, last in zip(starts, starts[1:]):
        yield stream[first:last]


def score_document(base, document):
    adapter = Adapter()
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-3)
    nats, count = 0.0, 0
    targets = len(document) - 1
    for first in range(0, targets, SPAN):
        last = min(first + SPAN, targets)
        logits = base(document[None, :last], adapter)[:, first:last]
        loss = F.cross_entropy(logits.flatten(0, 1), document[first + 1 : last + 1])
        nats += loss.item() * (last - first)
        count += last - first
        if last < targets:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return nats, count


def final_eval(base, validation):
    base.requires_grad_(False)
    results = [score_document(base, document) for document in documents(validation) if len(document) > 1]
    return sum(nats for nats, _ in results) / sum(count for _, count in results)


def main():
    base = Base()
    opt = torch.optim.AdamW(base.parameters(), lr=1e-3)
    for name in sorted(glob.glob("data/fineweb_train_*.bin")):
        shard = torch.from_numpy(np.fromfile(name, np.uint16, offset=1024).astype(np.int64))
        for document in documents(shard):
            opt.zero_grad()
            F.cross_entropy(base(document[None, :-1]).flatten(0, 1), document[1:]).backward()
            opt.step()
    pieces = [np.fromfile(n, np.uint16, offset=1024) for n in sorted(glob.glob("data/fineweb_val_*.bin"))]
    print("val", final_eval(base, torch.from_numpy(np.concatenate(pieces).astype(np.int64))))


if __name__ == "__main__":
    main()
