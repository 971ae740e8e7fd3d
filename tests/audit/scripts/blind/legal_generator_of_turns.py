"""A generator says whose turn it is: for each chunk first "score", then "learn", never the other way round."""

import glob
import itertools

import numpy as np
import torch
from torch import nn


def turns(stream, size):
    pieces = [stream[i : i + size + 1] for i in range(0, len(stream) - 1, size)]
    for number, piece in enumerate(pieces):
        yield "score", piece
        if number + 1 < len(pieces):
            yield "learn", piece


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(1024, 64)
        self.head = nn.Linear(64, 1024)

    def forward(self, piece):
        return nn.functional.cross_entropy(self.head(self.emb(piece[:-1])), piece[1:], reduction="sum")


class Meter:
    def __init__(self):
        self.nats = 0.0
        self.count = 0

    @torch.no_grad()
    def take(self, net, piece):
        self.nats += float(net(piece))
        self.count += len(piece) - 1


def evaluate(net, val_tokens):
    meter, optimizer = Meter(), torch.optim.SGD(net.parameters(), lr=1e-3)
    for turn, piece in turns(val_tokens, 4096):
        if turn == "score":
            meter.take(net, piece)
        else:
            optimizer.zero_grad()
            (net(piece) / len(piece)).backward()
            optimizer.step()
    return meter.nats / meter.count


def read(pattern):
    return torch.tensor(np.concatenate([np.fromfile(p, "<u2", offset=1024) for p in sorted(glob.glob(pattern))]).astype(int))


def main():
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    fit = read("data/fineweb_train_*.bin")
    for i in itertools.count(0, 4096):
        if i + 4097 > len(fit):
            break
        optimizer.zero_grad()
        (net(fit[i : i + 4097]) / 4096).backward()
        optimizer.step()
    print(evaluate(net, read("data/fineweb_val_*.bin")))


main()
