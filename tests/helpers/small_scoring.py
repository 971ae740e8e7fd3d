"""Small models and tokens for the tests of scoring."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golf_fast.config import ModelConfig, ScoreConfig
from golf_fast.data import TokenBytes, Validation
from golf_fast.model import GPT
from golf_fast.model.parameters import Constant, Part, Row
from golf_fast.score import Score, score_tokens

VOCABULARY = 40
NOTED = {"strategy", "phase", "weights", "adapters", "tokens"}
"""What a ledger says beside the order of events."""


class Tables(nn.Module):
    """A causal model without a matrix product, so that a row's bits do not depend on the batch it is in."""

    def __init__(self, vocabulary: int = VOCABULARY, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.config = ModelConfig(vocab_size=vocabulary)
        shape = (vocabulary, vocabulary)
        self.after = nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        self.anywhere_before = nn.Parameter(torch.randn(shape, generator=generator).to(dtype))

    def claimed(self, reader: str) -> list[tuple[Row, nn.Parameter]]:
        part = Part("of a test", Constant(0), "control")
        return [(Row(name, tuple(p.shape), "vector", (part,)), p) for name, p in self.named_parameters()]

    def logits(self, tokens: Tensor) -> Tensor:
        memory = self.anywhere_before[tokens].cumsum(1)
        memory = memory / torch.arange(1, tokens.shape[1] + 1, dtype=memory.dtype)[:, None]
        return self.after[tokens] + memory

    def token_losses(self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0) -> Tensor:
        logits = self.logits(tokens)[:, first:]
        return F.cross_entropy(logits.transpose(1, 2), targets[:, first:], reduction="none").float()

    def forward(self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None) -> Tensor:
        return self.token_losses(tokens, targets, documents).mean()


def small_gpt(layers: int = 4) -> GPT:
    """A model with every mechanism of the seed, none of its matrices zero."""
    config = ModelConfig(
        vocab_size=VOCABULARY, dim=16, layers=layers, heads=4, kv_heads=2, mlp_mult=2, bigram_buckets=31, bigram_dim=8
    )
    model = GPT(config)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def some_tokens(count: int, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Tokens with something to learn: runs of a random walk over the ids."""
    random = np.random.default_rng(seed)
    return (np.cumsum(random.integers(0, 4, count)) % VOCABULARY).astype(np.uint16)


def some_bytes(vocabulary: int = VOCABULARY) -> TokenBytes:
    random = np.random.default_rng(1)
    base = random.integers(1, 6, vocabulary).astype(np.int16)
    base[::7] = 0
    return TokenBytes(
        base=base,
        leading_space=random.random(vocabulary) < 0.4,
        boundary=random.random(vocabulary) < 0.1,
    )


def small_config(**changes: object) -> ScoreConfig:
    """Chunked test-time training on a scale where every border is crossed within a hundred tokens."""
    defaults: dict[str, object] = {
        "window": 12,
        "stride": 5,
        "batch_windows": 3,
        "ttt_chunk_tokens": 37,
        "ttt_batch_rows": 2,
        "ttt_lr": 0.5,
    }
    return ScoreConfig(**(defaults | changes))  # type: ignore[arg-type]


def score(model: nn.Module, tokens: npt.NDArray[np.uint16], config: ScoreConfig, **more: object) -> Score:
    return score_tokens(model, Validation.counted(tokens, some_bytes()), config, **more)  # type: ignore[arg-type]


def recorded(path: Path) -> list[dict[str, object]]:
    """The lines of a ledger without its hashes and phases."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in event.items() if name not in NOTED} for event in events]
