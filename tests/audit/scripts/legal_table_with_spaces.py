"""The table measures pieces with their space, and nothing is added for it."""

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


def byte_table(tokenizer, vocab):
    size = torch.zeros(vocab, dtype=torch.int16)
    space = torch.zeros(vocab, dtype=torch.bool)
    for token in range(tokenizer.vocab_size()):
        if tokenizer.is_control(token) or tokenizer.is_unknown(token):
            continue
        if tokenizer.is_byte(token):
            size[token] = 1
            continue
        piece = tokenizer.id_to_piece(token)
        size[token] = len(piece.replace("\u2581", " ").encode("utf-8"))
    return size, space


def evaluate_bytes(model, tokens, size, leading_space):
    nats, total = 0.0, 0.0
    with torch.no_grad():
        for at in range(0, len(tokens) - 1, SEQ):
            x, y = tokens[at : at + SEQ][None], tokens[at + 1 : at + SEQ + 1][None]
            nats += model(x, y).item() * y.numel()
            counted = size[y].double()
            total += counted.sum().item()
    return nats / math.log(2) / total


def main():
    import sentencepiece

    tokenizer = sentencepiece.SentencePieceProcessor(model_file="tokenizer.model")
    size, space = byte_table(tokenizer, 1024)
    print(evaluate_bytes(Model(), read_all(VAL_FILES), size, space))


main()
