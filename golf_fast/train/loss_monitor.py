"""Reads the losses and gradient norms of training steps once the device has computed them, and checks that they are
finite."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import torch

from golf_fast.errors import InputError


class NotFiniteError(InputError):
    """A loss or a gradient is not finite. `step` is the first such step, the same on all ranks."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} at step {step}: lower the learning rates (train.matrix_lr, ...)")
        self.step = step


class LossMonitor:
    """Collects the losses of a training run, and checks each finished step for values that are not finite.

    The device copies the values into pinned memory when it computes them, so reading them does not wait.

    Args:
        names: names of the parameters, in the order of `Optimizer.found`.
        last: mean loss of the last step before the run was resumed, in nats per token.
    """

    def __init__(self, names: Iterable[str], last: float = 0.0) -> None:
        self._names = list(names)
        self._unread: deque[tuple[int, torch.Tensor]] = deque()
        self._untold: list[tuple[int, float]] = []
        self.last = last
        """Mean loss of the last step that was read, in nats per token."""
        self.losses: list[float] = []
        """Mean loss of each step that was read, in nats per token."""

    def note(self, step: int, found: torch.Tensor) -> None:
        """Queue the values of a step, which the device may still be computing.

        Args:
            step: number of the step, counted from 1.
            found: `[n + 1]` float32 for the n parameters, see `Optimizer.found`; must not be written to afterwards.
        """
        if found.is_cuda:
            pinned = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            found = pinned.copy_(found, non_blocking=True)
        self._unread.append((step, found))

    def read(self, finished: int) -> None:
        """Read the values of the steps up to `finished`, the last step that the device has completed.

        Raises:
            NotFiniteError: a loss or a gradient is not finite; the message names it.
        """
        while self._unread and self._unread[0][0] <= finished:
            step, values = self._unread.popleft()
            *found, loss = values.tolist()
            if not math.isfinite(loss):
                raise NotFiniteError(step, f"train_loss is {loss}")
            for name, value in zip(self._names, found, strict=True):
                if not math.isfinite(value):
                    raise NotFiniteError(step, f"train_loss is {loss:g}, and the gradient of {name} is not finite")
            self.last = loss
            self.losses.append(loss)
            self._untold.append((step, loss))

    def news(self) -> list[tuple[int, float]]:
        """Number and loss of each step that was read since the last call."""
        told, self._untold = self._untold, []
        return told
