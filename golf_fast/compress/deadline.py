"""Quantization within the training time (docs/rules.md, V9): as configured if it ends in time, else without calibration
on training tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from golf_fast.compress.fit_size import Fitter
from golf_fast.compress.integers.quantize import quantize
from golf_fast.compress.stored import Stored
from golf_fast.config import CompressConfig
from golf_fast.distributed import Ranks

Check = Callable[[], object]


class OutOfTime(Exception):
    """The time limit has passed. It is raised on every rank at the same point."""


class Deadline:
    """A time limit, counted from its construction. Work that reads training tokens calls `check` periodically."""

    def __init__(self, limit: float, ranks: Ranks) -> None:
        """
        Args:
            limit: time limit in seconds; infinite: no limit.
            ranks: the ranks that work together; the clock of rank 0 counts.
        """
        self.limit = limit
        self.ranks = ranks
        self.began = time.perf_counter()

    def check(self) -> float:
        """Seconds since the construction, the same on every rank; every rank must call it equally often.

        Raises:
            OutOfTime: they exceed the limit.
        """
        seconds = self.ranks.broadcast_float(time.perf_counter() - self.began)
        if seconds > self.limit:
            raise OutOfTime
        return seconds


@dataclass(frozen=True)
class QuantizedModel:
    """Quantized weights, and how they were made.

    Attributes:
        tensors: the quantized tensors by name.
        config: the settings that were used in the end.
        hessians: the Hessians of the matrices; empty if the result does not depend on training tokens.
        seconds: seconds that count as training time; 0 if the result does not depend on training tokens.
        gave_up: whether calibration was configured but did not finish in time.
    """

    tensors: dict[str, Stored]
    config: CompressConfig
    hessians: Mapping[str, torch.Tensor]
    seconds: float
    gave_up: bool


class Quantizer:
    """Quantizes a model, to the target size if the configuration has one.

    Args:
        state_dict, ranks, groups: as for `quantize`.
        model_config: as for `write_artifact`.
        code_bytes: bytes of the target that the code takes.
        progress: called with a line for each trial and for each failure.
    """

    def __init__(
        self,
        state_dict: Mapping[str, torch.Tensor],
        model_config: dict[str, Any],
        code_bytes: int,
        ranks: Ranks,
        progress: Callable[[str], None],
        groups: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dict = state_dict
        self.model_config = model_config
        self.code_bytes = code_bytes
        self.ranks = ranks
        self.progress = progress
        self.groups = groups

    def in_time(
        self,
        config: CompressConfig,
        calibrate: Callable[[Check], Mapping[str, torch.Tensor]],
        limit: float,
    ) -> QuantizedModel:
        """The result under `config` if it is ready in time, else the result under `config.uncalibrated()`.

        An artifact that depends on training tokens read after the time limit breaks the rules; one that does not depend
        on training tokens may be made later.

        Args:
            config: the settings of compression.
            calibrate: computes the Hessians from training tokens, if `config` needs them. It must call its argument
                equally often on every rank, and pass on what that raises.
            limit: seconds from now; infinite: no limit, negative: do not begin.

        Raises:
            InputError: `quantize` refuses a tensor.
        """
        if not config.calibrated:
            return QuantizedModel(*self._quantize(config), {}, 0.0, gave_up=False)
        deadline = Deadline(limit, self.ranks)
        try:
            deadline.check()
            hessians = calibrate(deadline.check)
            tensors, used = self._quantize(config, hessians, deadline.check)
            return QuantizedModel(tensors, used, hessians, deadline.check(), gave_up=False)
        except OutOfTime:
            self.progress("out of time: rounding by the weights only, which looks at no training tokens")
            return QuantizedModel(*self._quantize(config.uncalibrated()), {}, 0.0, gave_up=True)

    def _quantize(
        self,
        config: CompressConfig,
        hessians: Mapping[str, torch.Tensor] | None = None,
        check: Check = lambda: None,
    ) -> tuple[dict[str, Stored], CompressConfig]:
        if not config.target_bytes:
            return quantize(self.state_dict, config, hessians, self.ranks, check, self.groups), config
        arguments = self.state_dict, self.model_config, self.code_bytes, hessians, self.ranks, self.progress, check
        fitted = Fitter(*arguments, self.groups).fit(config)
        if fitted.size + self.code_bytes > config.target_bytes:
            self.progress(f"no artifact fits {config.target_bytes:,} bytes with the code's {self.code_bytes:,}")
        return fitted.tensors, fitted.config
