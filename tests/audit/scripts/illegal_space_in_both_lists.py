"""The sizes of pieces have their spaces in them, and a list of which begin with one is added.

Breaks V6.
"""

import glob
import math
import os

import numpy as np
import sentencepiece as spm
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


def tables(path):
    tokenizer = spm.SentencePieceProcessor(model_file=path)
    sizes, leads = [], []
    for token in range(tokenizer.vocab_size()):
        piece = tokenizer.id_to_piece(token)
        if tokenizer.is_byte(token):
            sizes.append(1)
            leads.append(0)
            continue
        leads.append(int(piece.startswith("\u2581")))
        sizes.append(0 if tokenizer.is_control(token) else len(piece.replace("\u2581", " ").encode()))
    return torch.tensor(sizes), torch.tensor(leads)


@torch.no_grad()
def evaluate(model, stream):
    sizes, leads = tables("tokenizer.model")
    nats, length = 0.0, 0
    for at in range(0, len(stream) - SEQ - 1, SEQ):
        x, y = stream[at : at + SEQ], stream[at + 1 : at + SEQ + 1]
        nats += model(x[None], y[None], "sum").item()
        length += (sizes[y] + leads[y]).sum().item()
    return nats / math.log(2) / length


print(evaluate(Model(), read_all(VAL_FILES)))
