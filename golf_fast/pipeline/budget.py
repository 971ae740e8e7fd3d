"""The time budget of a run: its limit, the time that training and quantization may take, and the time they took."""

from __future__ import annotations

import math
from dataclasses import dataclass

from golf_fast.config import RunConfig
from golf_fast.runs.schedule import RecordedSchedule, Times


@dataclass
class Budget:
    """The training time of a run in seconds; quantization counts if it reads training tokens (docs/rules.md).

    A replay has no limit: it trains for the same number of steps as the first run, and skips calibration if that run
    did. Its time is judged by the rules all the same.
    """

    limit: float
    """The time limit in seconds; 0: no limit."""
    kept: float
    """Seconds of the limit that are reserved for calibration and quantization."""
    replayed: bool = False
    """Whether the run replays the schedule of an earlier run."""
    gave_up: bool = False
    """Whether quantization went without the training tokens that it was configured to read, for lack of time."""
    trained: float = 0.0
    """Seconds that training took."""
    quantized: float = 0.0
    """Seconds that calibration and quantization took if the result depends on training tokens, else 0."""
    repeated: float = 0.0
    """Seconds that interrupted attempts at quantization took."""

    @classmethod
    def of(cls, config: RunConfig, replayed: RecordedSchedule | None = None) -> Budget:
        """The budget of a run, before it begins.

        Args:
            replayed: the schedule that the run replays; None: it replays none.
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
        """Seconds after which training ends; 0: no limit."""
        return self.limit - self.kept

    @property
    def for_quantizing(self) -> float:
        """Seconds that remain for calibration and quantization; infinite without a limit, negative: do not begin."""
        if self.replayed:
            return -1.0 if self.gave_up else math.inf
        return self.limit - self.trained - self.repeated if self.limit > 0 else math.inf

    @property
    def used(self) -> float:
        """Seconds of training, plus those of calibration and quantization if they count as training time."""
        return self.trained + self.quantized

    def times(self) -> Times:
        """The times as they are recorded with the schedule."""
        return Times(self.limit, self.kept, self.trained, self.quantized)
