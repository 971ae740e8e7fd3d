"""The stages of a run in order: all that a submission needs to make its score.

Output for people (tables, plots, forecasts, comparisons) is added by `golf_fast.pipeline.reported`, which overrides the
methods of `Run` that do nothing here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from golf_fast.code_size import Code
from golf_fast.compress import dequantize, read_artifact
from golf_fast.compress.artifact.codecs import require_installed
from golf_fast.config import RunConfig, ScoreConfig
from golf_fast.distributed import Ranks
from golf_fast.files import replacing
from golf_fast.model import upstream
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.compression import Compressed, compress
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.findings import ADAPTING, AFTER, BEFORE, Findings
from golf_fast.pipeline.inputs import prepare_inputs
from golf_fast.pipeline.training import TrainingStage, train_model
from golf_fast.runs import RunPaths
from golf_fast.runs.schedule import RecordedSchedule
from golf_fast.score import Ledger, Score, score_tokens
from golf_fast.train.progress import Log
from golf_fast.train.schedule import make_schedule

if TYPE_CHECKING:  # what only a resumable run needs
    from golf_fast.train.checkpoint import Checkpoints
    from golf_fast.train.clock import Clock


class Run:
    """A run: its stages and their results."""

    found: Findings
    checkpoints: Checkpoints | None = None
    """Takes checkpoints of training; None: none are taken."""

    def __init__(self, config: RunConfig, paths: RunPaths, ranks: Ranks, log: Log, code: Code) -> None:
        self.context = Context(config, paths, ranks, log, code)

    def prepare(self) -> None:
        """Load and check all inputs before training starts.

        Raises:
            InputError: the data or the schedule to replay cannot be used, the rules forbid the scoring protocol, or a
                package is missing.
        """
        context, config = self.context, self.context.config
        record = self.followed()
        budget = Budget.of(config, record)
        self.schedule = make_schedule(dataclasses.replace(config.train, max_seconds=budget.for_training), record)
        require_installed(config.compress.codec)
        with context.stage("data"):
            self.found = Findings(prepare_inputs(context), budget)
        context.log.line(f"data: {self.found.inputs.dataset.why}")
        context.log.line(f"validation: {self.found.inputs.validation.targets:,} tokens")

    def go(self) -> None:
        """Train, compress and score what `prepare` found."""
        context, paths = self.context, self.context.paths
        training = self.train()
        compressed = self.compress(training)
        self.after_compression(compressed)
        fixed = dataclasses.replace(context.config.score, ttt="off")
        self.score(BEFORE, training.weights, fixed)
        restored = dequantize(read_artifact(paths.artifact).tensors, device=context.ranks.device)
        adapts = context.config.score.ttt != "off"
        final = self.score(AFTER, restored, fixed, final=not adapts)
        if adapts:
            final = self.score(ADAPTING, restored, context.config.score, final=True)
        if context.ranks.main:
            with context.secondary(), replacing(paths.token_losses) as file:
                file.write(final.losses.tobytes())
        self.after_scoring(final)

    def followed(self) -> RecordedSchedule | None:
        """The recorded schedule that this run replays, if it replays one."""
        return None

    def forecast(self) -> Callable[[Mapping[str, torch.Tensor]], int] | None:
        """A function that predicts the artifact's size in bytes from averaged weights during training; None: none."""
        return None

    def between_steps(self, step: int, clock: Clock) -> None:
        """Called by every rank before the first training step and after each, with the number of steps begun."""

    def after_training(self, training: TrainingStage) -> None:
        """Called by every rank when training has ended, off the clock."""

    def after_compression(self, compressed: Compressed) -> None:
        """Called by every rank when the artifact is written, off the clock."""

    def after_scoring(self, final: Score) -> None:
        """Called by every rank when the score that counts is known."""

    def train(self) -> TrainingStage:
        """Run the training stage."""
        context, found = self.context, self.found
        with context.stage("train"):
            training = train_model(
                context,
                found.inputs,
                found.budget,
                self.schedule,
                self.forecast(),
                self.checkpoints,
                self.between_steps,
            )
            found.trained = training.trained
            self.after_training(training)
        return training

    def compress(self, training: TrainingStage) -> Compressed:
        """Run the compression stage, which writes the artifact."""
        with self.context.stage("compress") as note:
            compressed = compress(self.context, self.found.inputs, self.found.budget, training)
            note["bytes"] = self.context.paths.artifact.stat().st_size
        return compressed

    def score(
        self, name: str, weights: Mapping[str, torch.Tensor], config: ScoreConfig, *, final: bool = False
    ) -> Score:
        """Score `weights` (under public names), and store the score under the name of the stage.

        Args:
            final: whether this is the score that counts, whose ledger is written.
        """
        context, inputs = self.context, self.found.inputs
        ledger = Ledger(context.paths.ledger if context.ranks.main else None) if final else None
        if ledger is not None:
            self.found.events = ledger.events
        with context.stage(name) as note:
            upstream.load(context.scored_model, weights)
            score = score_tokens(
                context.scored_model,
                inputs.validation,
                config,
                context.ranks,
                ledger,
                lambda done, total: context.log.progress(name, done, total),
                training=inputs.slice_of_training(config.held_out.tokens) if config.ttt == "held_out" else None,
                log=context.log.line,
            )
            note["bpb"] = score.bpb
            trained = sum(tensor.nbytes for tensor in weights.values())
            note["bytes"] = trained if name == BEFORE else context.paths.artifact.stat().st_size
        self.found.scores[name] = score
        context.log.line(f"{name}: val_loss:{score.nats / score.tokens:.4f} val_bpb:{score.bpb:.4f}")
        return score
