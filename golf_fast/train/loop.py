"""The training loop: batches to averaged weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from golf_fast.config import TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.model.cast_weights import CastWeights
from golf_fast.train.agreement import require_agreement
from golf_fast.train.averages import Averages
from golf_fast.train.clock import Clock
from golf_fast.train.loss_monitor import LossMonitor, NotFiniteError
from golf_fast.train.optimizer import Optimizer
from golf_fast.train.progress import Log, Progress
from golf_fast.train.schedule import Rates, Schedule, make_schedule

if TYPE_CHECKING:  # it needs more packages than an optimizer does
    from golf_fast.data import Batches
    from golf_fast.train.checkpoint import Checkpoints
    from golf_fast.train.forecast import Forecast

MERGED_TOKENS = 4096
"""Micro-batches are merged into forward passes of up to this many tokens, since overhead dominates smaller ones."""


@dataclass(frozen=True)
class Trained:
    """The product of training.

    Attributes:
        weights: the averaged weights, float32, under the names of the model's parameters.
        average: the kind of average: "ema", "swa" or "none".
        steps: number of steps.
        seconds: training time in seconds.
        tokens: number of tokens trained on.
        train_loss: mean loss of the last step, in nats per token.
        recompiles: number of graphs that torch.compile made after the warm-up, within the training time.
        schedule: the rates of every step.
    """

    weights: dict[str, torch.Tensor]
    average: str
    steps: int
    seconds: float
    tokens: int
    train_loss: float
    recompiles: int
    schedule: Schedule


class Trainer:
    """A model in training with its batches, optimizer and averages.

    Args:
        model: the model, on `ranks.device` and equal on all ranks.
        loss: `(*batch) -> mean loss`, normally the model itself or its compiled form.
        batches: this rank's micro-batches, in the challenge's order.
        config: the training settings.
        ranks: the ranks of the run.
    """

    def __init__(
        self,
        model: GPT,
        loss: Callable[..., torch.Tensor],
        batches: Batches,
        config: TrainConfig,
        ranks: Ranks,
    ) -> None:
        self.model = model
        self.loss = loss
        self.batches = batches
        self.config = config
        self.ranks = ranks
        micro_batches = config.micro_batches // ranks.world_size
        together = max(1, MERGED_TOKENS * config.micro_batches // config.batch_tokens)
        self.merged = max(n for n in range(1, micro_batches + 1) if micro_batches % n == 0 and n <= together)
        """Number of micro-batches in one forward pass; they have equal size, so the mean of their means is the mean."""
        self.accumulation = micro_batches // self.merged
        self.optimizer = Optimizer(model, config, ranks)
        self.averages = Averages(model, config)

    def step(self, rates: Rates) -> torch.Tensor:
        """Run one training step, and return the mean loss over all ranks as a scalar on the device, without waiting."""
        self.optimizer.zero_grad()
        self.batches.seq_len = rates.seq_len or self.config.seq_len
        self.model.loop(rates.looped)
        self.model.limit_windows(rates.window)
        total = torch.zeros((), device=self.ranks.device)
        parts = self.accumulation * self.ranks.world_size
        weights = CastWeights(self.model.views()) if self.accumulation > 1 else None
        for _ in range(self.accumulation):
            # A single micro-batch is not copied: it lies in pinned memory, which can be transferred asynchronously.
            first, *others = (self.batches.next() for _ in range(self.merged))
            batch = first.joined(others).to(self.ranks.device, non_blocking=True)
            loss = (self.loss(*batch, weights.weights) if weights is not None else self.loss(*batch)) / parts
            torch.autograd.backward(loss)
            if weights is not None:
                weights.backward()
            total += loss.detach()
        self.optimizer.step(rates, total)
        return self.optimizer.found[-1]

    def warm_up(self, schedule: Schedule, log: Log) -> None:
        """Run full steps that compile and fill caches, then restore the weights, the optimizer and the data
        position."""
        weights = [p.detach().clone() for p in self.model.parameters()]
        restore_optimizer = self.optimizer.snapshot()
        position = self.batches.state()
        steps = [rates for rates in schedule.warm_up_rates() for _ in range(self.config.warmup_steps)]
        for step, rates in enumerate(steps, 1):
            self.step(rates)
            log.progress("warm-up", step, len(steps))
        with torch.no_grad():
            for parameter, saved in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(saved)
        restore_optimizer()
        self.batches.restore(position)
        self.optimizer.zero_grad()
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize()
        self.ranks.barrier()


def train(
    trainer: Trainer,
    log: Log,
    validate: Callable[[], tuple[float, float]] | None = None,
    clock: Clock | None = None,
    predict: Callable[[Mapping[str, torch.Tensor]], int] | None = None,
    schedule: Schedule | None = None,
    checkpoints: Checkpoints | None = None,
    between_steps: Callable[[int, Clock], None] = lambda step, clock: None,
) -> Trained:
    """Train until the schedule ends.

    Args:
        trainer: the model and what trains it.
        log: receives a line every `log_every` steps.
        validate: returns the loss (nats per token) and bits per byte; called off the clock every `val_every` steps.
        clock: measures training time from now on; default: a new `Clock`.
        predict: returns the artifact's bytes for averaged weights; called every `log_every` steps, see `Forecast`.
        schedule: decides the rates and the last step; default: the schedule of the trainer's configuration.
        checkpoints: takes checkpoints, and restores the one that training resumes from; default: there are none.
        between_steps: called by every rank before the first step and after each step, with the number of steps begun.

    Raises:
        KeyboardInterrupt: a signal was received, and a checkpoint was taken.
        NotFiniteError: a loss or a gradient is not finite; the state is that after the last good step.
        StoppedError: the ranks do not hold the same weights.
    """
    config, ranks = trainer.config, trainer.ranks
    schedule = schedule or make_schedule(config)
    trainer.warm_up(schedule, log)
    graphs = _compiled_graphs()
    clock = clock or Clock(ranks)
    step, loss = checkpoints.begin(trainer, schedule, clock) if checkpoints else (0, torch.zeros(()))
    monitor = LossMonitor(trainer.optimizer.parameters, last=float(loss))
    clock.finished = partial(_read, monitor, trainer, schedule)
    forecast = _forecast(predict, clock, ranks)
    progress, reported = Progress(log, config, schedule, clock, monitor), False
    between_steps(step, clock)
    while not schedule.is_over(step, clock.elapsed, clock.step_seconds, clock.in_flight):
        rates = schedule.rates(step, clock.elapsed)
        step, loss = step + 1, trainer.step(rates)
        monitor.note(step, trainer.optimizer.found)
        schedule.record(rates)
        trainer.averages.update(step, rates.lr_factor, trainer.optimizer.ok)
        clock.step_issued()
        reported = step <= 10 or step % config.log_every == 0
        if reported:
            size = _look(trainer, step, forecast)
            clock.finished(step)
            progress.report(step, rates, size)
        progress.live(step)
        progress.validate(step, validate)
        if checkpoints:
            checkpoints.after(step, loss, trainer, schedule, clock)
        between_steps(step, clock)
    clock.drain()
    require_agreement(trainer.optimizer.parameters, ranks, step)
    if not reported:
        progress.report(step, schedule.recorded[-1])
    return _trained(trainer, schedule, clock, monitor, _compiled_graphs() - graphs)


def _trained(trainer: Trainer, schedule: Schedule, clock: Clock, monitor: LossMonitor, recompiles: int) -> Trained:
    steps = len(schedule.recorded)
    return Trained(
        weights=trainer.averages.weights(),
        average=trainer.averages.used,
        steps=steps,
        seconds=clock.elapsed,
        tokens=steps * trainer.config.batch_tokens,
        train_loss=monitor.last,
        recompiles=recompiles,
        schedule=schedule,
    )


def _read(monitor: LossMonitor, trainer: Trainer, schedule: Schedule, finished: int) -> None:
    """Read the results of the steps up to `finished`.

    Raises:
        NotFiniteError: a loss or a gradient is not finite. The model, optimizer, averages and schedule are in the state
            after the last good step.
    """
    try:
        monitor.read(finished)
    except NotFiniteError as error:
        trainer.averages.forget(error.step)
        del schedule.recorded[error.step - 1 :]
        raise


def _compiled_graphs() -> int:
    """Number of graphs that torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"]) if "torch._dynamo" in sys.modules else 0


def _forecast(
    predict: Callable[[Mapping[str, torch.Tensor]], int] | None, clock: Clock, ranks: Ranks
) -> Forecast | None:
    if predict is None:
        return None
    from golf_fast.train.forecast import Forecast  # imported here since a built submission has no forecast

    return Forecast(predict, clock, main=ranks.main, beside=ranks.device.type == "cuda")


def _look(trainer: Trainer, step: int, forecast: Forecast | None) -> int | None:
    """Wait for the device; every `log_every` steps also check that the ranks agree, and predict the artifact's bytes.

    Raises:
        StoppedError: the ranks do not hold the same weights.
    """
    size = None
    if step % trainer.config.log_every == 0:
        if forecast:
            size = forecast.ask(trainer.averages)
        require_agreement(trainer.optimizer.parameters, trainer.ranks, step)
    if trainer.ranks.device.type == "cuda":
        torch.cuda.current_stream().synchronize()
    return size
