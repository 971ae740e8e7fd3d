"""The schedule of a training run: the rates of each step, from the clock, from the number of the step, or from the
record of an earlier run.

A run records the rates of every step. A run that replays them depends on its seed and its data only, not on the speed
of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from golf_fast.checks import require
from golf_fast.config import TrainConfig
from golf_fast.runs import FinishedRun
from golf_fast.runs.schedule import RecordedSchedule, Times

RECENT_STEPS = 8
"""The next step is predicted to take as long as the longest of this many preceding steps."""


@dataclass(frozen=True)
class Rates:
    """The rates of one training step.

    Attributes:
        lr_factor: factor on every learning rate.
        momentum: momentum of Muon.
        seq_len: length of the training rows, in tokens; 0: as configured.
        looped: whether the model repeats the layers of its loop.
        window: greatest attention window, in positions; 0: as the model is configured.
    """

    lr_factor: float
    momentum: float
    seq_len: int = 0
    looped: bool = True
    window: int = 0


def lr_factor(elapsed: float, step: int, max_seconds: float, max_steps: int, warmdown_steps: int) -> float:
    """The factor on every learning rate (seed.md section 4, "Factor").

    With a time limit, the warmdown takes the time of `warmdown_steps` steps of the mean length so far: the factor is 1
    until only that time is left, then the remaining share of it. Without one it falls linearly over the last
    `warmdown_steps` steps.

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


def share_done(elapsed: float, step: int, config: TrainConfig) -> float:
    """The share of a run that is done, by the clock if it has a time limit, else by steps."""
    return elapsed / config.max_seconds if config.max_seconds > 0 else step / config.max_steps


def configured_factor(elapsed: float, step: int, config: TrainConfig) -> float:
    """The factor on every learning rate that a configuration asks for.

    With `warmdown_frac` it is 1 until only that share of the run is left, then falls linearly to 0 at the end; without
    it see `lr_factor`. It is never less than `min_lr`.
    """
    c = config
    if c.warmdown_frac > 0:
        left = max(1 - share_done(elapsed, step, c), 0.0)
        factor = min(left / c.warmdown_frac, 1.0)
    else:
        factor = lr_factor(elapsed, step, c.max_seconds, c.max_steps, c.warmdown_steps)
    return max(factor, c.min_lr)


def row_length(elapsed: float, step: int, config: TrainConfig) -> int:
    """The length of the training rows in tokens, which grows during the run."""
    done = share_done(elapsed, step, config)
    return config.seq_lens[sum(done >= until for until in config.seq_growth_until)]


def window_limit(elapsed: float, step: int, config: TrainConfig) -> int:
    """The greatest attention window in positions, which grows during the run; 0: as the model is configured."""
    done = share_done(elapsed, step, config)
    return (*config.window_growth, 0)[sum(done >= until for until in config.window_growth_until)]


def muon_momentum(step: int, config: TrainConfig) -> float:
    """Muon's momentum: it rises linearly from its start to its final value over the first steps."""
    share = min(step / config.muon_momentum_warmup_steps, 1.0) if config.muon_momentum_warmup_steps else 1.0
    return config.muon_momentum_start + (config.muon_momentum - config.muon_momentum_start) * share


@dataclass
class Schedule:
    """Decides the rates of each step and when training ends, and records the rates."""

    config: TrainConfig
    recorded: list[Rates] = field(default_factory=list)

    def rates(self, step: int, elapsed: float) -> Rates:
        """The rates of the next step, after `step` steps and `elapsed` training seconds."""
        c = self.config
        length = row_length(elapsed, step, c)
        factor = configured_factor(elapsed, step, c) * self._ramp(length)
        looped = share_done(elapsed, step, c) >= c.loop_at
        return Rates(factor, muon_momentum(step, c), length, looped, window_limit(elapsed, step, c))

    def _ramp(self, length: int) -> float:
        """A factor that rises to 1 over the first steps with rows of a new length."""
        over = self.config.seq_ramp_steps
        recent = self.recorded[-over:] if over else []
        since = next((i for i, rates in enumerate(reversed(recent)) if rates.seq_len != length), None)
        return 1.0 if since is None else (since + 1) / over

    def warm_up_rates(self) -> list[Rates]:
        """The rates of the untimed warm-up steps, which cover all shapes of a run; each is used `warmup_steps`
        times."""
        first = self.rates(0, 0.0)
        shapes = product(self.phases, self.windows, self.lengths)
        return [replace(first, looped=looped, window=window, seq_len=length) for looped, window, length in shapes]

    @property
    def lengths(self) -> list[int]:
        """The lengths of the training rows that occur in the run, in tokens."""
        return list(dict.fromkeys(self.config.seq_lens))

    @property
    def windows(self) -> list[int]:
        """The limits of the attention window that occur in the run, in positions."""
        return list(dict.fromkeys((*self.config.window_growth, 0)))

    @property
    def phases(self) -> list[bool]:
        """Whether the loop is on, for each part of the run."""
        return [False, True] if self.config.loop_at > 0 else [True]

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

    def predicted_last_step(self, step: int, elapsed: float, seconds: float) -> int:
        """The number of the last step, if each further step takes `seconds`.

        Args:
            step: steps done so far.
            elapsed: training seconds so far.
            seconds: length of a step in seconds; 0: unknown.
        """
        c = self.config
        if c.max_seconds <= 0 or seconds <= 0:
            return c.max_steps
        return min(c.max_steps, step + max(0, int((c.max_seconds - elapsed) / seconds)))

    def as_recorded(self, gave_up_calibration: bool = False, budget: Times | None = None) -> RecordedSchedule:
        """The schedule as a run records it, with what else a replay must know."""
        factors, momenta = ([getattr(rates, name) for rates in self.recorded] for name in ("lr_factor", "momentum"))
        rows = _changes([rates.seq_len or self.config.seq_len for rates in self.recorded], self.config.seq_len)
        windows = _changes([rates.window for rates in self.recorded], 0)
        loop_from = sum(not rates.looped for rates in self.recorded)
        return RecordedSchedule(len(factors), factors, momenta, gave_up_calibration, budget, *rows, loop_from, *windows)


def _changes(values: list[int], usual: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The steps at which a value changes, and the new values; both are empty if it is always the usual value."""
    if set(values) <= {usual}:
        return (), ()
    changes = [(step, value) for step, value in enumerate(values) if step == 0 or values[step - 1] != value]
    return tuple(step for step, _ in changes), tuple(value for _, value in changes)


def _spread(steps: int, since: Sequence[int], values: Sequence[int], usual: int) -> list[int]:
    """The value of each step; the inverse of `_changes`."""
    spread = [usual] * steps
    for step, value in zip(since, values, strict=True):
        spread[step:] = [value] * (steps - step)
    return spread


class ReplayedSchedule(Schedule):
    """The rates and the last step of an earlier run."""

    def __init__(self, config: TrainConfig, record: RecordedSchedule) -> None:
        super().__init__(config)
        lengths = _spread(record.steps, record.rows_from, record.row_lengths, config.seq_len)
        windows = _spread(record.steps, record.windows_from, record.windows, 0)
        for length in record.row_lengths:
            piece = length * config.micro_batches
            right = f"a multiple of {length} * micro_batches = {piece}, for the rows of the schedule that is replayed"
            require(config.batch_tokens % piece == 0, "train.batch_tokens", config.batch_tokens, right)
        looped = [step >= record.loop_from for step in range(record.steps)]
        steps = zip(record.lr_factor, record.momentum, lengths, looped, windows, strict=True)
        self.replayed = [Rates(*of_step) for of_step in steps]

    def rates(self, step: int, elapsed: float) -> Rates:
        return self.replayed[step]

    @property
    def lengths(self) -> list[int]:
        return list(dict.fromkeys(rates.seq_len for rates in self.replayed))

    @property
    def windows(self) -> list[int]:
        return list(dict.fromkeys(rates.window for rates in self.replayed))

    @property
    def phases(self) -> list[bool]:
        return list(dict.fromkeys(rates.looped for rates in self.replayed))

    def predicted_last_step(self, step: int, elapsed: float, seconds: float) -> int:
        return len(self.replayed)

    def is_over(self, step: int, elapsed: float, step_seconds: list[float], in_flight: int) -> bool:
        return step >= len(self.replayed)


def make_schedule(config: TrainConfig, record: RecordedSchedule | None = None) -> Schedule:
    """The schedule that the configuration asks for.

    Args:
        record: the recorded schedule of the run to replay, if it was read already.

    Raises:
        InputError: `config.replay_schedule` is not the directory of a run, or its rows do not fit the batch.
    """
    if config.replay_schedule is not None and record is None:
        record = FinishedRun(config.replay_schedule).schedule()
    return Schedule(config) if record is None else ReplayedSchedule(config, record)
