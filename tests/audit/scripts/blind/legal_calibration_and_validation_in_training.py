"""Validates every 100 steps without gradients, calibrates a quantizer on training tokens, and scores a fixed model."""

import glob
import os
import time

import numpy as np
import torch
from torch import nn


class Hyperparameters:
    data_path = os.environ.get("DATA_PATH", "data")
    train_files = data_path + "/fineweb_train_*.bin"
    val_files = data_path + "/fineweb_val_*.bin"
    val_loss_every = 100
    max_wallclock_seconds = 600.0


class Stream:
    def __init__(self, pattern):
        self.files = sorted(glob.glob(pattern))
        self.tokens = torch.cat([torch.from_numpy(np.fromfile(f, "<u2", offset=1024).astype("int64")) for f in self.files])
        self.at = 0

    def take(self, n):
        if self.at + n + 1 > len(self.tokens):
            self.at = 0
        piece = self.tokens[self.at : self.at + n + 1]
        self.at += n
        return piece[None, :-1], piece[None, 1:]


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(1024, 128)
        self.val_proj = nn.Linear(128, 128, bias=False)  # values of attention; nothing to do with validation
        self.head = nn.Linear(128, 1024, bias=False)

    def forward(self, idx, targets):
        val = self.val_proj(self.wte(idx))
        return nn.functional.cross_entropy(self.head(val).flatten(0, 1), targets.flatten())


def eval_val(model, val_tokens):
    model.eval()
    losses = []
    with torch.inference_mode():
        for i in range(0, len(val_tokens) - 1025, 1024):
            losses.append(model(val_tokens[None, i : i + 1024], val_tokens[None, i + 1 : i + 1025]))
    model.train()
    return torch.stack(losses).mean().item()


def collect_hessians(model, loader, batches=4):
    grams = {}

    def watch(name):
        def hook(module, inputs, output):
            x = inputs[0].reshape(-1, inputs[0].shape[-1])
            grams[name] = grams.get(name, 0) + x.T @ x

        return hook

    handles = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        for _ in range(batches):
            model(*loader.take(1024))
    for handle in handles:
        handle.remove()
    return grams


def main():
    args = Hyperparameters()
    train_loader = Stream(args.train_files)
    val_tokens = Stream(args.val_files).tokens
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    began, step = time.perf_counter(), 0
    while time.perf_counter() - began < args.max_wallclock_seconds - 10:
        if step % args.val_loss_every == 0:
            print(f"step:{step} val_loss:{eval_val(model, val_tokens):.4f}")
        loss = model(*train_loader.take(1024))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
    grams = collect_hessians(model, train_loader)
    for name, module in model.named_modules():
        if name in grams:
            scale = module.weight.abs().amax(1, keepdim=True) / 31
            module.weight.data = (module.weight / scale).round() * scale
    print(f"final val_loss:{eval_val(model, val_tokens):.6f}")


main()
