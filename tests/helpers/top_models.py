"""Models with every mechanism of the published stack at the top."""

from __future__ import annotations

import dataclasses

from golf_fast.recipes import RECIPES

TOP = dataclasses.replace(RECIPES["top_1855"]().model, separate_documents=False)
"""As published (docs/top.md)."""
SMALL_TOP = dataclasses.replace(
    TOP, vocab_size=30, dim=16, layers=5, heads=4, kv_heads=2, mlp_mult=2, rope_dims=2, xsa_layers=5, loop_start=1,
    loop_end=2, lanes_from=3,
)  # fmt: skip
"""The same at a width of 16; slots 0, 1, 2, 1, 2, 1, 2, 3, 4."""
