"""One token after another, each drawn from what the model says of the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from golf_fast.checks import require, require_numbers
from golf_fast.model import GPT


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    max_tokens: int = 200
    """Greatest number of tokens that are drawn."""
    temperature: float = 0.8
    """Divides the logits: below 1 likely tokens get likelier; 0 takes the likeliest."""
    top_p: float = 0.95
    """Draw from the likeliest tokens that together have this probability (Holtzman et al., arXiv 1904.09751); 1: from
    all."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        require_numbers(self, "sample", seed=2**63 - 1)
        require(self.max_tokens >= 1, "max-tokens", self.max_tokens, "at least 1")
        require(self.temperature >= 0, "temperature", self.temperature, "0 or more")
        require(0 < self.top_p <= 1, "top-p", self.top_p, "more than 0 and at most 1")


@torch.inference_mode()
def generate(
    model: GPT, prompt: Sequence[int], sampling: Sampling, stop: int | None = None, cached: bool = True
) -> Iterator[int]:
    """The tokens after a prompt, each as soon as it is drawn.

    Args:
        prompt: at least one token, BOS first where a document begins.
        stop: the token at which the text ends; it is not given.
        cached: keep keys and values, so that a token costs one position; else all positions run again for each.
    """
    first, *_ = model.parameters()
    device = first.device
    generator = torch.Generator().manual_seed(sampling.seed)
    cache = model.new_cache() if cached else None
    tokens = torch.tensor([list(prompt)], dtype=torch.int64, device=device)
    for _ in range(sampling.max_tokens):
        logits = model.logits(tokens, first=tokens.shape[1] - 1, cache=cache)[0, 0]
        token = draw(logits, sampling, generator)
        if token == stop:
            return
        yield token
        new = torch.tensor([[token]], device=device)
        tokens = new if cached else torch.cat((tokens, new), dim=1)


def draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """A token by the logits `[V]` of what comes next; `generator` is on the CPU, where it is drawn."""
    logits = logits.double().cpu()
    if not sampling.temperature:
        return int(logits.argmax())
    probabilities, order = torch.softmax(logits / sampling.temperature, dim=0).sort(descending=True, stable=True)
    up_to = probabilities.cumsum(0)
    kept = 1 + int((up_to[:-1] < sampling.top_p).sum())
    chosen = torch.rand((), dtype=torch.float64, generator=generator) * up_to[kept - 1]
    return int(order[min(int(torch.searchsorted(up_to, chosen, right=True)), kept - 1)])
