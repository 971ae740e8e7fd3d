"""Runs of seconds, by their flags, and a text for them."""

import json
from pathlib import Path

import numpy as np

SMALL = [
    "--model.vocab-size=300",
    "--model.dim=32",
    "--model.layers=2",
    "--model.heads=2",
    "--model.kv-heads=1",
    "--model.bigram-buckets=64",
    "--model.bigram-dim=16",
    "--train.max-seconds=0",
    "--train.max-steps=4",
    "--train.warmup-steps=1",
    "--train.batch-tokens=1024",
    "--train.seq-len=32",
    "--train.compute-dtype=float32",
    "--compress.prune-min-elements=256",
    "--score.window=32",
    "--score.stride=16",
]
"""Of the recipe tiny; on ranks up to 8."""
ADAPTING = ["--score.ttt-chunk-tokens=512", "--score.ttt-epochs=1"]
"""With these it adapts to the small text while it is scored, in several chunks."""
RESUMED = [
    *SMALL,
    "--device=cpu",
    "--train.max-steps=20",
    "--train.log-every=1",
    "--train.val-every=7",
    "--train.ema-start-step=8",
    "--train.checkpoint-every=3",
    "--compress.calibration-tokens=4096",
    *ADAPTING,
]
"""A longer one, which has a checkpoint every third step and something to go on with in every stage."""


def text(folder: Path) -> Path:
    """Documents that differ, and from which a tokenizer of 300 pieces can be made."""
    generator = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in generator.integers(0, 26, length)) for length in [2, 3, 5, 8] * 60]
    path = folder / "text.jsonl"
    documents = (" ".join(generator.choice(words, 60)) for _ in range(60))
    path.write_text("".join(json.dumps({"text": document + ".\n"}) + "\n" for document in documents))
    return path
