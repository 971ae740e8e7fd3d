"""A run that was scored along the stream is replayed so, at a sample of places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from golf_fast.audit.run import losses
from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.replay import Sample, again
from golf_fast.config import ModelConfig, ScoreConfig
from golf_fast.data import TokenBytes, Validation
from golf_fast.model import GPT
from golf_fast.ops import backends
from golf_fast.score import score_tokens

MODEL = ModelConfig(vocab_size=50, dim=16, layers=2, heads=2, kv_heads=1, bigram_buckets=0, window=(7, 4))
STREAM = ScoreConfig(window=16, stride=4, batch_windows=4, ttt="off", ttt_chunk_tokens=16, streaming=True)


def test_a_stream_is_sampled_with_its_own_losses() -> None:
    model = GPT(MODEL, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    tokens = np.random.default_rng(7).integers(0, 50, 513).astype(np.uint16)
    counted = TokenBytes(np.full(50, 2, np.int16), np.zeros(50, np.bool_), np.zeros(50, np.bool_))
    validation = Validation.counted(tokens, counted)
    score = score_tokens(model, validation, STREAM)
    sampled = again(model, validation, STREAM, Sample(targets=64))
    assert sampled.anywhere
    assert 32 <= sampled.done.sum() <= 128
    assert sampled.done[:4].all()
    assert sampled.done[-4:].all()
    assert np.abs(sampled.losses - score.losses)[sampled.done].max() < 1e-5
    whole = again(model, validation, STREAM, Sample(full=True))
    assert np.abs(whole.losses - score.losses).max() < 1e-6


def test_what_a_gpu_has_no_kernels_for_is_replayed_on_the_cpu(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that computed in float32 is audited on a machine with a GPU."""
    kernels = [("relu2_mlp", backends.Backend("triton", ""))]
    chosen = backends.describe
    monkeypatch.setattr(
        backends, "describe", lambda device: kernels if torch.device(device).type == "cuda" else chosen(device)
    )
    evidence = Evidence(run)
    evidence.result = replace(evidence.result, compute_dtype="float32")
    model = losses.model_of(evidence, torch.device("cuda"))
    assert not isinstance(model, Missing)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
