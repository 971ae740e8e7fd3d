"""Predicts the size of the artifact while a model trains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch

from golf_fast.train.averages import Averages
from golf_fast.train.clock import Clock
from golf_fast.train.copies import Copies

Predict = Callable[[Mapping[str, torch.Tensor]], int]
"""Function from weights, under the names of the model's parameters, to the predicted size in bytes."""


class Forecast:
    """Makes predictions on the first rank.

    With a GPU, a thread of the host predicts from a copy while training continues, and the result is returned by the
    next call. On a CPU a prediction would take time from training, so it is made with the clock stopped.

    Args:
        predict: computes a prediction; takes seconds for a large model.
        clock: the training clock.
        main: whether this is the first rank.
        beside: whether predictions are made in a thread.
    """

    def __init__(self, predict: Predict, clock: Clock, *, main: bool, beside: bool) -> None:
        self._predict, self._clock, self._main, self._beside = predict, clock, main, beside
        self._thread: threading.Thread | None = None
        self._size: int | None = None

    def ask(self, averages: Averages) -> int | None:
        """The predicted size in bytes for the current averages, or, if a thread predicts, for those at an earlier call.
        Called by all ranks. None: there is no prediction yet, or this is not the first rank."""
        if not self._beside:
            with self._clock.stopped():
                return self._predict(averages.weights()) if self._main else None
        if not self._main or (self._thread is not None and self._thread.is_alive()):
            return None
        found, self._size = self._size, None
        copies = Copies(averages.weights())

        def work() -> None:
            self._size = self._predict(copies.on_host())

        self._thread = threading.Thread(target=work, name="forecast", daemon=True)
        self._thread.start()
        return found
