"""A training run of three steps on a tiny model, as one of several ranks: `plain_run.py OUT_DIR`."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from golf_fast.config import ModelConfig, TrainConfig
from golf_fast.data import Batches, TokenStream, write_shard
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.train import Trained, Trainer, train
from golf_fast.train.checkpoint import Checkpoints
from golf_fast.train.clock import Clock

MODEL = ModelConfig(vocab_size=61, dim=32, layers=3, heads=4, kv_heads=2, mlp_mult=2, bigram_buckets=50, bigram_dim=8)
TRAIN = TrainConfig(
    max_seconds=0,
    max_steps=4,
    warmdown_steps=2,
    warmup_steps=2,
    batch_tokens=1024,
    seq_len=32,
    ema_start_step=2,
    ema_decay=0.9,
    embedding_dtype="float32",
)


class Lines:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.metrics: list[dict[str, object]] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def metric(self, **fields: object) -> None:
        self.metrics.append(fields)

    def progress(self, stage: str, done: float, total: float, text: str = "") -> None:
        pass

    def losses(self) -> list[object]:
        return [metric["loss"] for metric in self.metrics if metric["kind"] == "train"]


def shard(folder: Path) -> Path:
    """A shard of random tokens, shorter than the run, so that it is read more than once."""
    path = folder / "noise_train_000000.bin"
    if not path.exists():
        write_shard(path, np.random.default_rng(0).integers(0, MODEL.vocab_size, 3001, dtype=np.uint16))
    return path


def run(
    folder: Path,
    ranks: Ranks,
    config: TrainConfig = TRAIN,
    clock: Clock | None = None,
    checkpoints: Checkpoints | None = None,
    log: Lines | None = None,
) -> tuple[Trained, Lines]:
    """Train as one of `ranks` on the shard in `folder`."""
    torch.set_num_threads(1)
    model = GPT(MODEL, seed=3).to(ranks.device)
    stream = TokenStream([shard(folder)], MODEL.vocab_size)
    batches = Batches(stream, ranks.rank, ranks.world_size, config.batch_tokens, config.micro_batches, config.seq_len)
    log = log or Lines()
    return train(Trainer(model, model, batches, config, ranks), log, clock=clock, checkpoints=checkpoints), log


def main() -> None:
    folder = Path(sys.argv[1])
    ranks = Ranks.from_environment("cpu", TRAIN.micro_batches)
    trained, log = run(folder, ranks, replace(TRAIN, log_every=1))
    result = {"losses": log.losses(), "weights": trained.weights}
    torch.save(result, folder / f"{ranks.world_size}-{ranks.rank}.pt")
    ranks.close()


if __name__ == "__main__":
    main()
