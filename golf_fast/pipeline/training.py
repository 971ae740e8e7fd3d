"""Training as a stage of a run: batches to averaged weights, the checkpoint and the recorded schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from golf_fast.config import compiles
from golf_fast.data import Batches
from golf_fast.model import GPT, upstream
from golf_fast.model.compilation import compiled
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import Inputs
from golf_fast.score import score_tokens
from golf_fast.train import Trained, Trainer, train
from golf_fast.train.schedule import Schedule

if TYPE_CHECKING:  # what only a resumable run needs
    from golf_fast.train.checkpoint import Checkpoints
    from golf_fast.train.clock import Clock


@dataclass(frozen=True)
class TrainingStage:
    """What the training stage leaves.

    Attributes:
        trained: how it went.
        weights: averaged, float32, under public names, on the run's device.
        next_token: position in the training stream after the last token that was read.
    """

    trained: Trained
    weights: dict[str, torch.Tensor]
    next_token: int


def train_model(
    context: Context,
    inputs: Inputs,
    budget: Budget,
    schedule: Schedule,
    predict: Callable[[Mapping[str, torch.Tensor]], int] | None = None,
    checkpoints: Checkpoints | None = None,
    between_steps: Callable[[int, Clock], None] = lambda step, clock: None,
) -> TrainingStage:
    """Train within the budget, and leave the schedule in the run directory.

    Args:
        predict: returns the bytes of the artifact that averaged weights would make, for the log.
        checkpoints: takes them, and has the one to go on from; none where nobody asks for them.
        between_steps: called before the first step and after each.

    Raises:
        InputError: the loss is no longer a finite number.
    """
    config, ranks, log = context.config, context.ranks, context.log
    narrow = config.train.embedding_dtype == "compute"
    model = context.model(context.dtype if narrow else torch.float32)
    count = sum(parameter.numel() for parameter in model.parameters())
    log.line(f"model: {count:,} parameters, {config.model.layers} layers of width {config.model.dim}")
    _say(context, budget)
    batches = Batches(
        inputs.dataset.train_stream(),
        ranks.rank,
        ranks.world_size,
        config.train.batch_tokens,
        config.train.micro_batches,
        config.train.seq_len,
        pin=ranks.device.type == "cuda",
        separate=config.model.separate_documents,
    )

    loss = compiled(model) if compiles(config.train.compile, ranks.device.type) else model
    trainer = Trainer(model, loss, batches, schedule.config, ranks)
    trained = train(
        trainer,
        log,
        lambda: _validate(context, inputs, model),
        predict=predict,
        schedule=schedule,
        checkpoints=checkpoints,
        between_steps=between_steps,
    )
    budget.trained = trained.seconds
    weights = upstream.split(trained.weights, config.model)
    if ranks.main:
        write_schedule(context, budget, schedule)
    log.line(f"trained: {trained.steps} steps in {trained.seconds:.1f} s, average: {trained.average}")
    return TrainingStage(trained, weights, batches.state()["position"])


def write_schedule(context: Context, budget: Budget, schedule: Schedule) -> None:
    """Leave what a replay needs in the run directory."""
    with context.secondary():
        schedule.as_recorded(budget.gave_up, budget.times()).write(context.paths.schedule)


def _say(context: Context, budget: Budget) -> None:
    """How the time is shared out, where a run ends by the clock."""
    if budget.replayed or not budget.limit or not context.config.compress.calibrated:
        return
    if budget.kept:
        context.log.line(
            f"training: {budget.for_training:g} s, which leaves {budget.kept:g} of {budget.limit:g} s for the "
            "quantization"
        )
    else:
        context.log.line(
            "training: no time is kept for the quantization, which will most likely do without training tokens; "
            "--compress.calibration-seconds keeps some"
        )


def _validate(context: Context, inputs: Inputs, model: GPT) -> tuple[float, float]:
    """Loss in nats a token, and bits per byte, of the model as it is."""
    config = context.config
    whole_windows = dataclasses.replace(
        config.score,
        ttt="off",
        compile="off",  # it would compile in the middle of training, for a few batches
        stride=config.score.window,
        batch_windows=max(1, config.train.val_batch_tokens // config.score.window),
    )
    score = score_tokens(model, inputs.validation, whole_windows, context.ranks)
    return score.nats / score.tokens, score.bpb
