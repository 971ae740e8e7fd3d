"""A run of a few seconds with every stage, as flags of `python -m golf_fast.train tiny`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

STAGES = [
    "train",
    "compress",
    "what compression cost",
    "score before compression",
    "score after compression",
    "score while adapting",
]
FLAGS = [
    "--device=cpu",
    "--model.vocab-size=300",
    "--model.dim=32",
    "--model.layers=2",
    "--model.heads=2",
    "--model.kv-heads=1",
    "--model.bigram-buckets=64",
    "--model.bigram-dim=16",
    "--train.max-seconds=0",
    "--train.max-steps=20",
    "--train.warmup-steps=1",
    "--train.batch-tokens=1024",
    "--train.seq-len=32",
    "--train.log-every=1",
    "--train.val-every=7",
    "--train.ema-start-step=8",
    "--train.compute-dtype=float32",
    "--train.checkpoint-every=3",
    "--compress.prune-min-elements=256",
    "--compress.calibration-tokens=4096",
    "--score.window=32",
    "--score.stride=16",
    "--score.ttt-chunk-tokens=512",
    "--score.ttt-epochs=1",
]


def text(folder: Path) -> Path:
    """Some text in documents, different enough that the tokenizer finds its pieces."""
    path = folder / "text.jsonl"
    if path.exists():
        return path
    generator = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in generator.integers(0, 26, length)) for length in [2, 3, 5, 8] * 60]
    with path.open("w") as file:
        for _ in range(60):
            document = " ".join(generator.choice(words, 60))
            file.write(json.dumps({"text": document + ".\n"}) + "\n")
    return path
