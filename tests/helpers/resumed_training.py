"""A short training as one of several ranks, from a checkpoint or the start: `resumed_training.py OUT RESUME [STEP]`.

It leaves a checkpoint after each step in RESUME.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from helpers.plain_run import TRAIN, Lines, run

from golf_fast.console import deferred
from golf_fast.distributed import Ranks
from golf_fast.train import Trained
from golf_fast.train.checkpoint import Checkpoint, Checkpoints, read

CONFIG = replace(TRAIN, log_every=1, checkpoint_every=1, checkpoint_keep=100, ema_start_step=3, swa=True, swa_every=1)
"""EMA and SWA both come to be within the steps."""


def trained(
    folder: Path, resume: Path, ranks: Ranks, start: Checkpoint | None, config: object = CONFIG
) -> tuple[Trained, Lines]:
    """Train from a checkpoint or from the start."""
    log = Lines()
    with deferred() as deferral:
        checkpoints = Checkpoints(resume, config, ranks, log, deferral, start)  # type: ignore[arg-type]
        found, _ = run(folder, ranks, config, checkpoints=checkpoints, log=log)  # type: ignore[arg-type]
        checkpoints.close()
    return found, log


def main() -> None:
    out, resume = Path(sys.argv[1]), Path(sys.argv[2])
    ranks = Ranks.from_environment("cpu", CONFIG.micro_batches)
    start = read(resume / f"step-{int(sys.argv[3]):08d}") if len(sys.argv) > 3 else None
    found, log = trained(out.parent, resume, ranks, start)
    torch.save({"losses": log.losses(), "weights": found.weights}, out.with_name(f"{out.name}-{ranks.rank}.pt"))
    ranks.close()


if __name__ == "__main__":
    main()
