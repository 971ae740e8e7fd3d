"""What a step's rates are: from the clock, from the step, or from the record of an earlier run.

A run records the rates of every step. Replaying them makes a run a function of its seed and its data, however fast the
machine is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from golf_fast.config import TrainConfig
from golf_fast.runs import FinishedRun
from golf_fast.runs.schedule import RecordedSchedule, Times

RECENT_STEPS = 8
"""The next step is predicted to take as long as the longest of this many steps before it."""


@dataclass(frozen=True)
class Rates:
    """The factor on every learning rate, and Muon's momentum, for one step."""

    lr_factor: float
    momentum: float


def lr_factor(elapsed: float, step: int, max_seconds: float, max_steps: int, warmdown_steps: int) -> float:
    """The factor on every learning rate (seed.md section 4, "Factor").

    With a time limit it is 1 until the time left is what `warmdown_steps` steps of the mean length so far would take,
    then the share of that which is left. Without one it falls linearly over the last `warmdown_steps` steps.

    Args:
        elapsed: training seconds so far.
        step: steps done so far.
        max_seconds: the time limit; 0 for none.
        max_steps: the step limit.
        warmdown_steps: 0 or less: always 1.
    """
    if warmdown_steps <= 0:
        return 1.0
    if max_seconds <= 0:
        return min(max(max_steps - step, 0) / warmdown_steps, 1.0)
    warmdown_seconds = warmdown_steps * elapsed / max(step, 1)
    left = max(max_seconds - elapsed, 0.0)
    return left / warmdown_seconds if left <= warmdown_seconds and warmdown_seconds > 0 else 1.0


def muon_momentum(step: int, config: TrainConfig) -> float:
    """Muon's momentum: linear from its start to its final value over the first steps."""
    share = min(step / config.muon_momentum_warmup_steps, 1.0) if config.muon_momentum_warmup_steps else 1.0
    return config.muon_momentum_start + (config.muon_momentum - config.muon_momentum_start) * share


@dataclass
class Schedule:
    """Decides each step's rates and the last step, and records them."""

    config: TrainConfig
    recorded: list[Rates] = field(default_factory=list)

    def rates(self, step: int, elapsed: float) -> Rates:
        """The rates of the step after `step` steps and `elapsed` training seconds."""
        c = self.config
        factor = lr_factor(elapsed, step, c.max_seconds, c.max_steps, c.warmdown_steps)
        return Rates(factor, muon_momentum(step, c))

    def record(self, rates: Rates) -> None:
        self.recorded.append(rates)

    def is_over(self, step: int, elapsed: float, step_seconds: list[float], in_flight: int) -> bool:
        """Whether training ends here: at the step limit, or when the next step would end past the time limit.

        Args:
            step: steps started so far.
            elapsed: training seconds so far.
            step_seconds: length of each finished step.
            in_flight: steps started and not finished.
        """
        c = self.config
        if step >= c.max_steps:
            return True
        if c.max_seconds <= 0:
            return False
        predicted = max(step_seconds[-RECENT_STEPS:], default=0.0)
        return elapsed + (in_flight + 1) * predicted > c.max_seconds

    def as_recorded(self, gave_up_calibration: bool = False, budget: Times | None = None) -> RecordedSchedule:
        """What a run leaves of it, with what else a replay must know."""
        factors, momenta = ([getattr(rates, name) for rates in self.recorded] for name in ("lr_factor", "momentum"))
        return RecordedSchedule(len(factors), factors, momenta, gave_up_calibration, budget)


class ReplayedSchedule(Schedule):
    """The rates and the last step of an earlier run."""

    def __init__(self, config: TrainConfig, record: RecordedSchedule) -> None:
        super().__init__(config)
        self.replayed = [Rates(*pair) for pair in zip(record.lr_factor, record.momentum, strict=True)]

    def rates(self, step: int, elapsed: float) -> Rates:
        return self.replayed[step]

    def is_over(self, step: int, elapsed: float, step_seconds: list[float], in_flight: int) -> bool:
        return step >= len(self.replayed)


def make_schedule(config: TrainConfig, record: RecordedSchedule | None = None) -> Schedule:
    """The schedule that the configuration asks for.

    Args:
        record: of the run to replay, if it was read already.

    Raises:
        InputError: `config.replay_schedule` is not the directory of a run.
    """
    if config.replay_schedule is not None and record is None:
        record = FinishedRun(config.replay_schedule).schedule()
    return Schedule(config) if record is None else ReplayedSchedule(config, record)
