"""One side of `python -m benchmarks against`: `against_worker.py RECIPE THREADS`.

For each line that it reads it takes a training step and prints its times and loss. It imports only what every commit to
be compared has, and nothing of this package.
"""

import dataclasses
import json
import sys
import time

import torch

from golf_fast import machine, recipes
from golf_fast.data import Batch
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.train.loop import Trainer
from golf_fast.train.schedule import make_schedule


class Tokens:
    """Batches in which each token follows from the previous one, with a little noise, so that a model learns
    quickly."""

    def __init__(self, vocabulary: int, rows: int, length: int) -> None:
        self.vocabulary, self.rows, self.length = vocabulary, rows, length
        self.seq_len = length
        self.generator = torch.Generator().manual_seed(1)

    def next(self) -> Batch:
        """The next micro-batch, `[rows, length]`."""
        noise = torch.randint(0, 4, (self.rows, self.length + 1), generator=self.generator)
        tokens = torch.randint(0, self.vocabulary, (self.rows, self.length + 1), generator=self.generator)
        for i in range(1, self.length + 1):
            tokens[:, i] = (tokens[:, i - 1] * 5 + 7 + noise[:, i]) % self.vocabulary
        return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), None)


def main() -> None:
    recipe, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    config = recipes.RECIPES[recipe]()
    train = dataclasses.replace(config.train, max_seconds=0)
    device, _ = machine.choose_device("cpu")
    dtype, _ = machine.choose_compute_dtype("auto", device)
    tables = dtype if train.embedding_dtype == "compute" else torch.float32
    model = GPT(config.model, compute_dtype=dtype, embedding_dtype=tables, seed=0)
    rows = train.batch_tokens // train.micro_batches // train.seq_len
    ranks = Ranks.from_environment("cpu", train.micro_batches)
    trainer = Trainer(model, model, Tokens(config.model.vocab_size, rows, train.seq_len), train, ranks)
    schedule = make_schedule(train)
    print(json.dumps({"ready": True}), flush=True)
    for step, _ in enumerate(sys.stdin):
        wall, cpu = time.perf_counter(), time.process_time()
        loss = trainer.step(schedule.rates(step, 0.0))
        trainer.averages.update(step + 1, 1.0)
        taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(taken | {"loss": float(loss)}), flush=True)


if __name__ == "__main__":
    main()
