"""Batches to averaged weights."""

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
"""Micro-batches are run together up to this many tokens: smaller ones cost more overhead than arithmetic."""


@dataclass(frozen=True)
class Trained:
    """What training leaves: averaged weights, and how it went.

    Attributes:
        weights: float32, under the names of the model's parameters.
        average: which average they are: "ema", "swa" or "none".
        schedule: the rates of every step.
        train_loss: mean loss of the last step, nats a token.
        recompiles: graphs that torch.compile made after the warm-up, inside the training time.
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
    """One model in training: its batches, optimizers, averages and clock.

    Args:
        model: on `ranks.device`, equal on all ranks.
        loss: `(*batch) -> mean loss`, normally the model itself or its compiled form.
        batches: this rank's micro-batches, in the challenge's order.
        config: see `TrainConfig`.
        ranks: who takes part.
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
        """Micro-batches that one forward pass takes: the mean of their means is the mean of all."""
        self.accumulation = micro_batches // self.merged
        self.optimizer = Optimizer(model, config, ranks)
        self.averages = Averages(model, config)

    def step(self, rates: Rates) -> torch.Tensor:
        """One full step; returns the mean loss over all ranks as a device scalar, without waiting for it."""
        self.optimizer.zero_grad()
        self.batches.seq_len = rates.seq_len or self.config.seq_len
        self.model.loop(rates.looped)
        self.model.limit_windows(rates.window)
        total = torch.zeros((), device=self.ranks.device)
        parts = self.accumulation * self.ranks.world_size
        weights = CastWeights(self.model.views()) if self.accumulation > 1 else None
        for _ in range(self.accumulation):
            # A single piece stays as it is: pinned memory, which a copy would not be, travels while the device works.
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
        """Full steps that compile and fill caches; afterwards weights, optimizers and data are as before."""
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
        log: told every `log_every` steps.
        validate: returns loss (nats a token) and bits per byte; called off the clock every `val_every` steps.
        clock: measures training time from now on; default: the machine's.
        predict: returns the bytes of the artifact of averaged weights; called every `log_every` steps, see `Forecast`.
        schedule: decides the rates and the last step; default: what the configuration of the trainer asks for.
        checkpoints: takes them, and brings the training to where it goes on from; default: there are none.
        between_steps: called by every rank before the first step and after each, with the steps that were begun.

    Raises:
        KeyboardInterrupt: a signal came, and a checkpoint was taken.
        NotFiniteError: a loss or a gradient is no finite number; everything is as after the last good step.
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
    """Read what the steps up to `finished` found.

    Raises:
        NotFiniteError: a loss or a gradient was no finite number. The model, optimizers, averages and the schedule are
            as after the last good step.
    """
    try:
        monitor.read(finished)
    except NotFiniteError as error:
        trainer.averages.forget(error.step)
        del schedule.recorded[error.step - 1 :]
        raise


def _compiled_graphs() -> int:
    """How many graphs torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"]) if "torch._dynamo" in sys.modules else 0


def _forecast(
    predict: Callable[[Mapping[str, torch.Tensor]], int] | None, clock: Clock, ranks: Ranks
) -> Forecast | None:
    if predict is None:
        return None
    from golf_fast.train.forecast import Forecast  # only for people: what only trains does without it

    return Forecast(predict, clock, main=ranks.main, beside=ranks.device.type == "cuda")


def _look(trainer: Trainer, step: int, forecast: Forecast | None) -> int | None:
    """Wait for the device, and every `log_every` steps see that the ranks agree; then the bytes that are predicted.

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
