"""Models with every mechanism of the published stack at the top."""

from __future__ import annotations

import dataclasses

from golf_fast.config import ModelConfig

TOP = ModelConfig(
    vocab_size=8192,
    layers=11,
    mlp_mult=4,
    qk_gain_init=5.0,
    bigram_buckets=0,
    backout=False,
    negative_slope=0.5,
    smear="before_norm",
    rope_dims=16,
    norm_scale=True,
    xsa_layers=11,
    attention_gate=True,
    attention_gate_scale=0.5,
    skip_gates=True,
    loops=2,
    lanes_from=8,
)
"""As published (docs/top.md)."""
SMALL_TOP = dataclasses.replace(
    TOP, vocab_size=30, dim=16, layers=5, heads=4, kv_heads=2, mlp_mult=2, rope_dims=2, xsa_layers=5, loop_start=1,
    loop_end=2, lanes_from=3,
)  # fmt: skip
"""The same at a width of 16; slots 0, 1, 2, 1, 2, 1, 2, 3, 4."""
