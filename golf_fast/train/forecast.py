"""How many bytes the artifact would have, predicted while a model trains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch

from golf_fast.train.averages import Averages
from golf_fast.train.clock import Clock
from golf_fast.train.copies import Copies

Predict = Callable[[Mapping[str, torch.Tensor]], int]
"""From weights under the names of the model's parameters to bytes."""


class Forecast:
    """Asks for predictions on the first rank.

    Where the device is a GPU its host has time to spare: a thread predicts from a copy while training goes on, and what
    it finds is told when it is asked the next time. On a CPU it would take the training's own time, so the clock stops.

    Args:
        predict: takes seconds for a large model.
        clock: of the training.
        main: whether this is the first rank.
        beside: whether a thread predicts.
    """

    def __init__(self, predict: Predict, clock: Clock, *, main: bool, beside: bool) -> None:
        self._predict, self._clock, self._main, self._beside = predict, clock, main, beside
        self._thread: threading.Thread | None = None
        self._size: int | None = None

    def ask(self, averages: Averages) -> int | None:
        """A prediction from these weights, or beside a training from those when it was asked before; called by all
        ranks. None: there is none, or this is not the first rank."""
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
