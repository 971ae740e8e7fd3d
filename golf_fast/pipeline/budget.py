"""The one owner of a run's time: its limit, what each part of the run may take of it, and what it took."""

from __future__ import annotations

import math
from dataclasses import dataclass

from golf_fast.config import RunConfig
from golf_fast.runs.schedule import RecordedSchedule, Times


@dataclass
class Budget:
    """Seconds of training time, in which quantizing counts where it reads training tokens (docs/rules.md).

    A replay has no limit to obey: it trains as long as the first run did in steps, and gives up what that gave up.
    Its own time is judged all the same.
    """

    limit: float
    """The longest time that the run may take; 0 for no limit."""
    kept: float
    """The part of the limit that is kept for calibrating and quantizing."""
    replayed: bool = False
    """Whether the schedule of an earlier run is followed."""
    gave_up: bool = False
    """Whether the quantization does without the training tokens that it was to read."""
    trained: float = 0.0
    """The time that training took."""
    quantized: float = 0.0
    """The time that calibrating and quantizing took where training tokens have a part in the result, else 0."""
    repeated: float = 0.0
    """The time that attempts at it took which were cut short."""

    @classmethod
    def of(cls, config: RunConfig, replayed: RecordedSchedule | None = None) -> Budget:
        """The budget of a run, before it begins.

        Args:
            replayed: the schedule that the run follows, if it follows that of an earlier run.
        """
        limit, compress = config.train.max_seconds, config.compress
        return cls(
            limit,
            kept=min(compress.calibration_seconds, limit / 4) if compress.calibrated else 0.0,
            replayed=replayed is not None,
            gave_up=replayed is not None and replayed.gave_up_calibration,
        )

    @property
    def for_training(self) -> float:
        """Seconds after which training ends; 0 for no limit."""
        return self.limit - self.kept

    @property
    def for_quantizing(self) -> float:
        """Seconds that training has left; infinite for no limit, negative: do not begin."""
        if self.replayed:
            return -1.0 if self.gave_up else math.inf
        return self.limit - self.trained - self.repeated if self.limit > 0 else math.inf

    @property
    def used(self) -> float:
        """Seconds of training, and of calibrating and quantizing where that counts."""
        return self.trained + self.quantized

    def times(self) -> Times:
        """The seconds, as they are recorded beside the schedule."""
        return Times(self.limit, self.kept, self.trained, self.quantized)
