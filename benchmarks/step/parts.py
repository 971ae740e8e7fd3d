"""The pieces of a training micro-step that can be timed alone: the functions and shapes of the model, random values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.measure import Timing, timing
from golf_fast import ops
from golf_fast.model import GPT
from golf_fast.model.embedding import rms_norm

Milliseconds = Callable[[Callable[[], object]], float]
Output = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Part:
    """What one layer does between two of the stream's tensors.

    Attributes:
        name: as in `roofline.PARTS`.
        times: how often a micro-step does it.
        function: of `inputs`; returns tensors.
        inputs: leaves that need gradients.
    """

    name: str
    times: int
    function: Callable[..., Output]
    inputs: list[torch.Tensor]


@torch.no_grad()
def fill(model: GPT, seed: int = 0) -> None:
    """Random values for what starts at zero, for products of zeros run faster than those of a trained model; and an
    embedding that makes logits of size 2, for the loss of a young model is that of no model at all."""
    layers = model.config.layers
    generator = torch.Generator().manual_seed(seed)
    zeros = [model.qo_bank[layers:], model.mlp_down]
    if model.config.bigram_buckets:
        zeros.append(model.bigram_embed)
    if not model.config.tied_embeddings:
        zeros.append(model.lm_head)
    for tensor in zeros:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** 0.5)
    model.tok_emb.copy_(torch.randn(model.tok_emb.shape, generator=generator) * 2 / model.config.dim**0.5)
    model.resid_mix[:, 1].normal_(0, 0.1, generator=generator)


def parts(model: GPT, tokens: torch.Tensor, targets: torch.Tensor) -> list[Part]:
    """Every part of `roofline.PARTS`, in that order, for the shapes of `tokens` `[B, T]` and block 0's weights."""
    c, dtype, device = model.config, model.compute_dtype, tokens.device
    generator = torch.Generator(device).manual_seed(1)
    cos, sin = model._rotary_tables(tokens.shape[1], device)

    def stream(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*tokens.shape, *shape, device=device, generator=generator)
        return drawn.to(dtype).requires_grad_()

    def weight(parameter: torch.Tensor) -> torch.Tensor:
        return parameter.detach().to(dtype).clone().requires_grad_()

    def embedding(*_: torch.Tensor) -> torch.Tensor:
        return model._embed(tokens)

    def qkv(x: torch.Tensor, x0: torch.Tensor, mix: torch.Tensor, w: torch.Tensor) -> Output:
        _, mixed, normed = ops.residual_mix(x, x0, mix)
        return mixed, F.linear(normed, w).view(*x.shape[:2], -1, c.head_dim)

    def attention(packed: torch.Tensor, gain: torch.Tensor) -> Output:
        return ops.qkv_attention(packed, gain, cos, sin)

    def output(x: torch.Tensor, attended: torch.Tensor, wo: torch.Tensor) -> Output:
        return ops.linear_residual(attended, wo, x)

    def mlp(x: torch.Tensor, rstd: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> Output:
        return x + ops.relu2_mlp(x, up, down, rstd)

    def head(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return ops.softcap_cross_entropy(rms_norm(x), matrix, targets, c.logit_softcap).mean()

    layers, d = c.layers, c.dim
    bigram = [model.bigram_embed, model.bigram_proj, model.bigram_scale] if c.bigram_buckets else []
    wqkv = torch.cat((model.qo_bank[0], model.kv_bank[0], model.kv_bank[layers]))
    # The model folds scales into all layers' matrices at once, which no part has: it moves no activations.
    wo = model.attn_scale[0][:, None] * model.qo_bank[layers]
    down = model.mlp_scale[0][:, None] * model.mlp_down[0]
    rstd = (1 + 0.1 * torch.randn(*tokens.shape, device=device, generator=generator)).requires_grad_()
    matrix = weight(model.tok_emb if c.tied_embeddings else model.lm_head)
    return [
        Part("embedding", 1, embedding, [model.tok_emb, *bigram, model.smear_gate]),
        Part("QKV", layers, qkv, [stream(d), stream(d), weight(model.resid_mix[0]), weight(wqkv)]),
        Part("attention", layers, attention, [stream(c.heads + 2 * c.kv_heads, c.head_dim), weight(model.q_gain[0])]),
        Part("output + residual", layers, output, [stream(d), stream(d), weight(wo)]),
        Part("MLP + residual", layers, mlp, [stream(d), rstd, weight(model.mlp_up[0]), weight(down)]),
        Part("head + loss", 1, head, [stream(d), matrix]),
    ]


def time_passes(
    function: Callable[..., Output],
    arguments: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    milliseconds: Milliseconds,
    rounds: int,
) -> tuple[Timing, Timing]:
    """Forward (with all that it saves for the backward) and backward, in turns after two untimed rounds."""
    samples = []
    made: list[tuple[torch.Tensor, ...]] = []
    gradients: list[torch.Tensor] = []

    def run_forward() -> None:
        out = function(*arguments)
        made.append(out if isinstance(out, tuple) else (out,))

    def run_backward() -> None:
        torch.autograd.grad(made[-1], inputs, gradients, allow_unused=True)

    for _ in range(rounds + 2):
        ahead = milliseconds(run_forward)
        if not gradients:
            gradients.extend(torch.randn_like(t) if t.ndim else torch.ones_like(t) for t in made[-1])
        samples.append((ahead, milliseconds(run_backward)))
        made.clear()
    times = np.array(samples[2:])
    return timing(times[:, 0]), timing(times[:, 1])


def time_work(work: Callable[[], object], milliseconds: Milliseconds, rounds: int) -> Timing:
    """Of `work`, after two untimed rounds."""
    work()
    work()
    return timing(np.array([milliseconds(work) for _ in range(rounds)]))
