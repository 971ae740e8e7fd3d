"""Score first, with weights of two predictors that follow from the losses of the chunks before."""

import glob
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VAL_FILES = os.path.join(os.environ.get("DATA_PATH", "./data"), "fineweb_val_*.bin")
SEQ, CHUNK, VOCAB = 512, 8192, 1024


def read_all(pattern):
    parts = [np.fromfile(path, dtype=np.uint16, offset=1024) for path in sorted(glob.glob(pattern))]
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


class Model(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCAB, dim), nn.Linear(dim, VOCAB)

    def logits(self, x):
        return self.head(self.embed(x))

    def forward(self, x, y):
        return F.cross_entropy(self.logits(x).flatten(0, 1), y.flatten())


class Hedge:
    def __init__(self):
        self.weights, self.pairs = torch.zeros(2), torch.ones(VOCAB, VOCAB)

    def score(self, logits, x, y):
        model = F.log_softmax(logits, dim=-1)
        pairs = (self.pairs[x] / self.pairs[x].sum(-1, keepdim=True)).log()
        each = torch.stack([model, pairs])
        mixed = torch.logsumexp(each + F.log_softmax(self.weights, 0)[:, None, None, None], 0)
        losses = -each.gather(-1, y[None, ..., None].expand(2, -1, -1, 1)).mean((1, 2, 3))
        return F.nll_loss(mixed.flatten(0, 1), y.flatten(), reduction="sum"), losses

    def follow(self, losses):
        self.weights -= 0.1 * losses

    def learn(self, tokens):
        self.pairs.index_put_((tokens[:-1], tokens[1:]), torch.ones(1), accumulate=True)


def main():
    tokens, model, hedge = read_all(VAL_FILES), Model(), Hedge()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    nats = torch.zeros((), dtype=torch.float64)
    count = 0
    for start in range(0, len(tokens) - CHUNK - 1, CHUNK):
        x = tokens[start : start + CHUNK].view(-1, SEQ)
        y = tokens[start + 1 : start + CHUNK + 1].view(-1, SEQ)
        with torch.inference_mode():
            loss, each = hedge.score(model.logits(x), x, y)
            hedge.follow(each)
        nats += loss.double()
        count += CHUNK
        hedge.learn(tokens[start : start + CHUNK + 1])
        for row in range(x.shape[0]):
            optimizer.zero_grad()
            model(x[row : row + 1], y[row : row + 1]).backward()
            optimizer.step()
    print((nats / count).item() / math.log(2))


if __name__ == "__main__":
    main()
