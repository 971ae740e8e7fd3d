"""The pieces of a training micro-step that can be timed by themselves: the model's own methods, on random values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.measure import Timing, timing
from golf_fast.model import GPT, parameters, upstream
from golf_fast.model.block import rotary_tables
from golf_fast.model.parameters import Constant

Milliseconds = Callable[..., float]
"""Milliseconds of a call of the first argument; the second, if given, is called before each try."""
Output = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Part:
    """What one layer does between two of the stream's tensors.

    Attributes:
        name: one of `roofline.PARTS`.
        times: number of times that a micro-step does it.
        function: function of `inputs` that does it once and returns tensors; it may ignore those that are weights of
            the model.
        inputs: leaf tensors that need gradients.
    """

    name: str
    times: int
    function: Callable[..., Output]
    inputs: list[torch.Tensor]


@torch.no_grad()
def fill(model: GPT, seed: int = 0) -> None:
    """Random values for what starts at zero, for products of zeros run faster than those of a trained model; and an
    embedding that makes logits of size 2, for the loss of a young model is that of no model at all."""
    generator = torch.Generator().manual_seed(seed)
    public = upstream.split(dict(model.named_parameters()), model.config)
    for found in parameters.slices(model.config):
        tensor = public[found.name]
        if found.part.initial == Constant(0) and tensor.ndim == 2:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** 0.5)
    model.tok_emb.copy_(torch.randn(model.tok_emb.shape, generator=generator) * 2 / model.config.dim**0.5)
    model.resid_mix[:, 1].normal_(0, 0.1, generator=generator)


def parts(model: GPT, tokens: torch.Tensor, targets: torch.Tensor) -> list[Part]:
    """Every part of `roofline.PARTS`, in that order: those of the model, for the shapes of `tokens` `[B, T]`.

    A block is timed with the first one's weights, without a skip and with one stream, once for each slot of the plan,
    its loop on. Exclusive attention and gates are timed with attention. The model casts the matrices of all layers and
    folds scales into them at once, which no part has: it moves no activations.
    """
    c, dtype, device = model.config, model.compute_dtype, tokens.device
    generator = torch.Generator(device).manual_seed(1)
    rotary = rotary_tables(tokens.shape[1], c, dtype, device)
    with torch.no_grad():
        first = model.views().blocks[0]

    def stream(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*tokens.shape, *shape, device=device, generator=generator)
        return drawn.to(dtype).requires_grad_()

    def leaf(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(dtype).clone().requires_grad_()

    block = dataclasses.replace(
        first,
        shares=leaf(model.resid_mix[0]),
        skip_weight=None,
        **{name: leaf(getattr(first, name)) for name in ("wqkv", "gain", "wo", "w_up", "w_down")},
        gate=None if first.gate is None else leaf(first.gate),
    )

    def embedding(*_: torch.Tensor) -> Output:
        return model.embed(tokens)

    def qkv(x: torch.Tensor, x0: torch.Tensor, *_: torch.Tensor) -> Output:
        _, mixed, normed = block.mix(x, x0, None, None)
        return mixed, block.project(normed)

    def attention(packed: torch.Tensor, _: torch.Tensor, *of_gate: torch.Tensor) -> Output:
        return block.attention(packed, rotary, of_gate[0] if of_gate else packed)

    def output(x: torch.Tensor, attended: torch.Tensor, *_: torch.Tensor) -> Output:
        return block.output(attended, x)

    def mlp(x: torch.Tensor, rstd: torch.Tensor, *_: torch.Tensor) -> Output:
        return x + block.mlp(x, rstd)

    def head(x: torch.Tensor, *_: torch.Tensor) -> Output:
        return model.head(x, targets).mean()

    layers, d = len(model.plan.slots), c.dim
    gate = [] if block.gate is None else [stream(d), block.gate]
    smear = [model.smear_gate] if c.smear != "off" else []
    bigram = [model.bigram_embed, model.bigram_proj, model.bigram_scale] if c.bigram_buckets else []
    rstd = (1 + 0.1 * torch.randn(*tokens.shape, device=device, generator=generator)).requires_grad_()
    return [
        Part("embedding", 1, embedding, [model.tok_emb, *bigram, *smear]),
        Part("QKV", layers, qkv, [stream(d), stream(d), block.shares, block.wqkv]),
        Part("attention", layers, attention, [stream(c.heads + 2 * c.kv_heads, c.head_dim), block.gain, *gate]),
        Part("output + residual", layers, output, [stream(d), stream(d), block.wo]),
        Part("MLP + residual", layers, mlp, [stream(d), rstd, block.w_up, block.w_down]),
        Part("head + loss", 1, head, [stream(d), model.tok_emb if c.tied_embeddings else model.lm_head]),
    ]


def time_passes(
    function: Callable[..., Output],
    arguments: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    milliseconds: Milliseconds,
    rounds: int,
) -> tuple[Timing, Timing]:
    """Forward (with all that it saves for the backward) and backward, in turns after two untimed rounds.

    A try that is taken again has a graph of its own: a backward uses one up, and several would not fit the memory.
    """
    samples = []
    made: list[tuple[torch.Tensor, ...]] = []
    gradients: list[torch.Tensor] = []

    def run_forward() -> None:
        out = function(*arguments)
        made.append(out if isinstance(out, tuple) else (out,))

    def run_backward() -> None:
        torch.autograd.grad(made.pop(), inputs, gradients, allow_unused=True)

    def make_graph() -> None:
        if not made:
            run_forward()

    for _ in range(rounds + 2):
        ahead = milliseconds(run_forward, made.clear)
        if not gradients:
            gradients.extend(torch.randn_like(t) if t.ndim else torch.ones_like(t) for t in made[-1])
        samples.append((ahead, milliseconds(run_backward, make_graph)))
    times = np.array(samples[2:])
    return timing(times[:, 0]), timing(times[:, 1])


def time_work(work: Callable[[], object], milliseconds: Milliseconds, rounds: int) -> Timing:
    """The time of `work` over `rounds` calls, after two untimed ones."""
    work()
    work()
    return timing(np.array([milliseconds(work) for _ in range(rounds)]))
