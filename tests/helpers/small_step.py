"""A small model, and its training, whose steps the benchmarks measure."""

from __future__ import annotations

from golf_fast.config import ModelConfig, RunConfig, TrainConfig

SMALL = ModelConfig(vocab_size=70, dim=32, layers=3, heads=4, kv_heads=2, bigram_buckets=17, bigram_dim=8)
TRAIN = TrainConfig(batch_tokens=96, micro_batches=2, seq_len=24, compute_dtype="float32", embedding_dtype="float32")


def small() -> RunConfig:
    return RunConfig(recipe="small", model=SMALL, train=TRAIN)
